"""Vector store in one SQLite file: durable writes, exact search over vectors held in memory.

Entry point: `store.SQLiteStore`. `connection` and
`schema` open and migrate the file, `group_commit` batches writes, `matrix_cache` and `queries` implement the search,
and `maintenance`, `masking` and `reindex` are the functions behind `bankllm memory`.
"""
