"""Replication to Pinecone with a local SQLite file and an outbox.

Entry point: `replicated.ReplicatedStore`. A write is committed to SQLite together with an outbox entry (`outbox`); a
background thread (`outbox_worker`) pushes the entries to the Pinecone index (`store`). Searches query both and merge
the results; `client` limits how long they wait for Pinecone.
"""
