"""Replication to Pinecone: a write is durable in SQLite first, and an outbox in the same file feeds the index."""
