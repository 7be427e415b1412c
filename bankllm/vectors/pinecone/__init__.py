"""Replication to Pinecone with a local SQLite file and an outbox.

Entry point: `replicated.ReplicatedStore`. A write is committed to SQLite together with an outbox entry (`outbox`); a
background thread (`worker`) pushes the entries to the Pinecone index (`index`). Searches query both and merge the
results.
"""
