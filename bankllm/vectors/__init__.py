"""Vectors: the assistant's memory, searched by meaning and kept apart customer by customer.

Messages go in (`VectorService.store_message`), each customer's own nearest messages come out
(`semantic_search`). `embedder` turns text into vectors and caches them; `store` keeps them in SQLite
with exact search, `pinecone_store` in Pinecone, `replicated` in both, behind the same `VectorStore` protocol.
"""
