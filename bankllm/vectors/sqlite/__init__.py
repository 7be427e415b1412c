"""Vector store in one SQLite file: durable writes, exact search over vectors held in memory.

Entry point: `store.SQLiteStore`. `file` opens the file, `connection` shares it among threads, `matrix` searches, and
`maintenance` and `reindex` are the functions behind `bankllm memory`.
"""
