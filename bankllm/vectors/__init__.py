"""Vector search: stores customer messages with their embeddings and finds them again by meaning and by words.

Entry point: `service.open_service()`, which returns a `VectorService`.

- Input: messages of one customer (`VectorService.for_user`) or texts that all customers share
  (`VectorService.collection`). Output: the nearest stored texts, as `rows.Match`.
- Each customer and each collection has a separate namespace. A search reads only one namespace.
- `fusion` combines the rankings by meaning and by words; `filters` restricts a search to metadata and times.
- `embedder` converts text to vectors and caches them in the process.
- `sqlite.store.SQLiteStore` holds the rows in one SQLite file and searches them exactly;
  `pinecone.replicated.ReplicatedStore` also replicates the file to Pinecone.
"""
