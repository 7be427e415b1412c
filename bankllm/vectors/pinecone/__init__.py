"""Replication to Pinecone with a local SQLite file and an outbox.

Entry point: `replicated.ReplicatedStore`. A write is committed to SQLite together with an outbox entry (`outbox`); a
background thread (`outbox_worker`) pushes the entries to the index (`index`). Searches ask both and merge the results.
"""
