"""SQL schema of a store's file: rows with their vectors, and the outbox for Pinecone.

Triggers fill the outbox in the transaction of each change, if `meta` has the key `REPLICATES_TO`. An entry names a row,
not a change: the row's state at the time of the push decides between upsert and delete, so a second push is harmless.
"""

APPLICATION_ID = 0x42564543
"""Value of `PRAGMA application_id` in the file header; identifies files written by bankllm."""
FIRST_SCHEMA, SCHEMA_VERSION = 4, 5
"""Schemas that can be read: 5 has `expires_at`; `file` migrates a file of schema 4."""
REPLICATES_TO = "replicates_to"
"""Key in `meta` whose value names the Pinecone index; absent in a file that is not replicated."""

_REPLICATES = f"EXISTS (SELECT 1 FROM meta WHERE key = '{REPLICATES_TO}')"
NOW = "((julianday('now') - 2440587.5) * 86400.0)"
"""SQL expression: the current time in seconds since 1970."""
AGAIN = """ON CONFLICT (namespace, id) DO UPDATE SET version = version + 1, refused = NULL,
    queued_at = CASE WHEN pushed_at IS NULL THEN queued_at ELSE excluded.queued_at END, pushed_at = NULL"""
"""SQL clause of an insert into the outbox that already has an entry of the row."""
ENTRY = "INSERT INTO outbox (namespace, id, known, queued_at)"

OUTBOX_SCHEMA = (
    # id: the row's id, or '' for the whole namespace.
    # known: whether Pinecone may have an older state of the row.
    # version: increases with each change; (seq, version) identifies one state of an entry.
    # queued_at: when the entry was added.
    # pushed_at: when Pinecone accepted a delete. The entry stays while searches in Pinecone may still return the row.
    # refused: the error, if Pinecone rejected the entry permanently.
    """CREATE TABLE IF NOT EXISTS outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        known INTEGER NOT NULL,
        queued_at REAL NOT NULL,
        version INTEGER NOT NULL DEFAULT 0,
        pushed_at REAL,
        refused TEXT,
        UNIQUE (namespace, id)
    )""",
    """CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (seq, queued_at)
        WHERE pushed_at IS NULL AND refused IS NULL""",
    "CREATE INDEX IF NOT EXISTS outbox_pushed ON outbox (pushed_at) WHERE pushed_at IS NOT NULL",
    f"""CREATE TRIGGER IF NOT EXISTS row_written AFTER INSERT ON rows WHEN {_REPLICATES} BEGIN
        {ENTRY} VALUES (NEW.namespace, NEW.id, 0, {NOW}) {AGAIN};
    END""",
    f"""CREATE TRIGGER IF NOT EXISTS row_rewritten AFTER UPDATE ON rows WHEN {_REPLICATES} BEGIN
        {ENTRY} VALUES (NEW.namespace, NEW.id, 1, {NOW}) {AGAIN};
    END""",
    f"""CREATE TRIGGER IF NOT EXISTS row_taken AFTER DELETE ON rows WHEN {_REPLICATES} BEGIN
        {ENTRY} VALUES (OLD.namespace, OLD.id, 1, {NOW}) {AGAIN};
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
        expires_at REAL,
        UNIQUE (namespace, id)
    )""",
    # The index also contains seq (the rowid), so it finds the rows of a namespace after a given seq.
    "CREATE INDEX IF NOT EXISTS rows_by_namespace ON rows (namespace)",
    # expires_at: seconds since 1970; NULL for a row that does not expire.
    "CREATE INDEX IF NOT EXISTS rows_by_expiry ON rows (expires_at, namespace) WHERE expires_at IS NOT NULL",
    # Counts how often a row of the namespace was deleted or got another vector. An empty namespace has no entry, so a
    # deleted customer's name does not remain in the file.
    "CREATE TABLE IF NOT EXISTS generations (namespace TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TRIGGER IF NOT EXISTS row_removed AFTER DELETE ON rows BEGIN
        INSERT INTO generations VALUES (OLD.namespace, 1)
            ON CONFLICT (namespace) DO UPDATE SET generation = generation + 1;
        DELETE FROM generations WHERE namespace = OLD.namespace
            AND NOT EXISTS (SELECT 1 FROM rows WHERE namespace = OLD.namespace);
        INSERT INTO meta VALUES ('removed', '1') ON CONFLICT (key) DO UPDATE SET value = value + 1;
    END""",
    """CREATE TRIGGER IF NOT EXISTS row_replaced AFTER UPDATE OF vector ON rows BEGIN
        INSERT INTO generations VALUES (NEW.namespace, 1)
            ON CONFLICT (namespace) DO UPDATE SET generation = generation + 1;
    END""",
    # `removed` in `meta` counts deleted and replaced texts since the last `maintenance.compact`.
    """CREATE TRIGGER IF NOT EXISTS text_replaced AFTER UPDATE OF text ON rows BEGIN
        INSERT INTO meta VALUES ('removed', '1') ON CONFLICT (key) DO UPDATE SET value = value + 1;
    END""",
    # How long rows are kept, in seconds (NULL: for ever). The namespace '' stands for all customers without their own.
    "CREATE TABLE IF NOT EXISTS retention (namespace TEXT PRIMARY KEY, ttl_s REAL) WITHOUT ROWID",
    # Receipts, see `deletion`. number and hash repeat the entry's, so that a damaged entry does not prevent a deletion.
    "CREATE TABLE IF NOT EXISTS receipts (number INTEGER PRIMARY KEY, hash TEXT NOT NULL, entry TEXT NOT NULL)",
    *OUTBOX_SCHEMA,
)
