"""The outbox in a store's file: what Pinecone has still to be told, noted in the transaction that changes a row.

Triggers note it, so that whoever writes cannot forget it; they do so only where the file replicates, which `meta`
says. An entry names a row, not a change: what the row is when the entry is pushed decides between upsert and removal,
so that pushing it again does no harm.
"""

REPLICATES_TO = "replicates_to"
"""Key in `meta` whose value names the index; absent in a file that does not replicate."""

_REPLICATES = f"EXISTS (SELECT 1 FROM meta WHERE key = '{REPLICATES_TO}')"
NOW = "((julianday('now') - 2440587.5) * 86400.0)"
"""Seconds since 1970."""
_AGAIN = """ON CONFLICT (namespace, id) DO UPDATE SET version = version + 1, refused = NULL, lsn = NULL,
    queued_at = CASE WHEN pushed_at IS NULL THEN queued_at ELSE excluded.queued_at END, pushed_at = NULL"""
_ENTRY = "INSERT INTO outbox (namespace, id, known, queued_at)"

OUTBOX_SCHEMA = (
    # id: '' stands for the whole namespace. known: how many rows that Pinecone has it stands for (1 for a row that was
    # pushed before); counts are told with it. queued_at: since when it waits. pushed_at: when Pinecone took a removal,
    # which stays here while searches there may still find what is gone. lsn: a position in Pinecone's log after that
    # removal. refused: why Pinecone will never take it. (seq, version) names one state of an entry for ever.
    """CREATE TABLE IF NOT EXISTS outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        known INTEGER NOT NULL,
        queued_at REAL NOT NULL,
        version INTEGER NOT NULL DEFAULT 0,
        pushed_at REAL,
        lsn INTEGER,
        refused TEXT,
        UNIQUE (namespace, id)
    )""",
    """CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (seq, queued_at)
        WHERE pushed_at IS NULL AND refused IS NULL""",
    "CREATE INDEX IF NOT EXISTS outbox_pushed ON outbox (pushed_at) WHERE pushed_at IS NOT NULL",
    f"""CREATE TRIGGER IF NOT EXISTS row_written AFTER INSERT ON rows WHEN {_REPLICATES} BEGIN
        {_ENTRY} VALUES (NEW.namespace, NEW.id, 0, {NOW}) {_AGAIN};
    END""",
    f"""CREATE TRIGGER IF NOT EXISTS row_rewritten AFTER UPDATE ON rows WHEN {_REPLICATES} BEGIN
        {_ENTRY} VALUES (NEW.namespace, NEW.id, 1, {NOW}) {_AGAIN};
    END""",
    f"""CREATE TRIGGER IF NOT EXISTS row_taken AFTER DELETE ON rows WHEN {_REPLICATES} BEGIN
        {_ENTRY} VALUES (OLD.namespace, OLD.id, 1, {NOW}) {_AGAIN};
    END""",
    # What is removed by name goes from Pinecone too where this file never had it: another machine may have written it.
    # An insert into this view removes a row, or with NULL for an id all of a namespace.
    "CREATE VIEW IF NOT EXISTS removals AS SELECT namespace, id FROM rows",
    f"""CREATE TRIGGER IF NOT EXISTS row_removal INSTEAD OF INSERT ON removals WHEN NEW.id IS NOT NULL BEGIN
        DELETE FROM rows WHERE namespace = NEW.namespace AND id = NEW.id;
        {_ENTRY} SELECT NEW.namespace, NEW.id, 1, {NOW} WHERE {_REPLICATES} AND NOT EXISTS
            (SELECT 1 FROM outbox WHERE namespace = NEW.namespace AND id = NEW.id AND pushed_at IS NULL) {_AGAIN};
    END""",
    # The namespace's entry comes before those of all rows written after it, since it takes the others away.
    f"""CREATE TRIGGER IF NOT EXISTS namespace_removal INSTEAD OF INSERT ON removals WHEN NEW.id IS NULL BEGIN
        DELETE FROM rows WHERE namespace = NEW.namespace;
        {_ENTRY} SELECT NEW.namespace, '', (SELECT total(known) FROM outbox WHERE namespace = NEW.namespace), {NOW}
            WHERE {_REPLICATES} {_AGAIN}, known = excluded.known;
        DELETE FROM outbox WHERE namespace = NEW.namespace AND id <> '';
    END""",
)
