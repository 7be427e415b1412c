"""The embedded vector store: rows in one SQLite file, exact search over their vectors in memory."""
