"""The tables of a store's file: rows and their vectors, the embedder's cache, and the outbox for Pinecone.

Triggers record what changed in the same transaction, so that no writer can forget it. The outbox holds what Pinecone
has not been told yet, and only in a file that replicates, which `meta` says. An entry names a row, not a change: the
row's state when the entry is pushed decides between upsert and removal, so that pushing twice does no harm.
"""

APPLICATION_ID = 0x42564543
"""Stands in the file's header (`PRAGMA application_id`) and tells our files from other programs'."""
SCHEMA_VERSION = 3
"""1: `meta` and `rows` alone. 2: also the index and `generations`, whose triggers tell what was removed or replaced.
3: also the vectors' precision in `meta`, `reindexed`, where another embedder's vectors wait to take over, how many rows
were `removed` or replaced since the file was last compacted, in `meta`, the outbox (`outbox_schema`), and `embeddings`
with its epoch, the cache of `file_cache`."""
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

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS rows (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        created_at TEXT NOT NULL,
        vector BLOB NOT NULL,
        text TEXT NOT NULL,
        metadata TEXT NOT NULL,
        UNIQUE (namespace, id)
    )""",
    # Holds seq too, as every index does: finds a namespace's rows after a given seq.
    "CREATE INDEX IF NOT EXISTS rows_by_namespace ON rows (namespace)",
    # How often a row of the namespace was removed or got another vector. A namespace without rows has no line here,
    # so that a forgotten customer's name does not stay behind. Triggers, so that whoever writes cannot forget it.
    """CREATE TABLE IF NOT EXISTS generations (
        namespace TEXT PRIMARY KEY,
        generation INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TRIGGER IF NOT EXISTS row_removed AFTER DELETE ON rows BEGIN
        INSERT INTO generations VALUES (OLD.namespace, 1)
            ON CONFLICT (namespace) DO UPDATE SET generation = generation + 1;
        DELETE FROM generations WHERE namespace = OLD.namespace
            AND NOT EXISTS (SELECT 1 FROM rows WHERE namespace = OLD.namespace);
    END""",
    """CREATE TRIGGER IF NOT EXISTS row_replaced AFTER UPDATE OF vector ON rows BEGIN
        INSERT INTO generations VALUES (NEW.namespace, 1)
            ON CONFLICT (namespace) DO UPDATE SET generation = generation + 1;
    END""",
    # What `reindex` has embedded so far. A row that is removed, or gets another text, takes its line away, and leaves
    # a count for `compaction`.
    "CREATE TABLE IF NOT EXISTS reindexed (seq INTEGER PRIMARY KEY, vector BLOB NOT NULL)",
    """CREATE TRIGGER IF NOT EXISTS reindexed_removed AFTER DELETE ON rows BEGIN
        DELETE FROM reindexed WHERE seq = OLD.seq;
        INSERT INTO meta VALUES ('removed', '1') ON CONFLICT (key) DO UPDATE SET value = value + 1;
    END""",
    """CREATE TRIGGER IF NOT EXISTS reindexed_replaced AFTER UPDATE OF text ON rows BEGIN
        DELETE FROM reindexed WHERE seq = NEW.seq;
        INSERT INTO meta VALUES ('removed', '1') ON CONFLICT (key) DO UPDATE SET value = value + 1;
    END""",
    *OUTBOX_SCHEMA,
    # The embedder's cache. A key is a hash, so that no text lies here in clear; `used` is in ms since 1970.
    """CREATE TABLE IF NOT EXISTS embeddings (
        key BLOB PRIMARY KEY,
        vector BLOB NOT NULL,
        used INTEGER NOT NULL
    )""",
    "CREATE INDEX IF NOT EXISTS embeddings_by_use ON embeddings (used)",
    # One line, once something was forgotten: how often.
    "CREATE TABLE IF NOT EXISTS embeddings_epoch (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL)",
)
