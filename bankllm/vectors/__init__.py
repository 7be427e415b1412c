"""Vectors: the assistant's memory, searched by meaning and kept apart customer by customer.

Messages go in (`VectorService.for_user`), each customer's own nearest messages come out; texts that all share lie in
collections. `embedder` turns text into vectors, cached in memory and, for all processes, in the store's file;
`store` keeps them in SQLite with exact search, `pinecone_store` in Pinecone, `replicated` in both, behind the same
`VectorStore` protocol.
"""
