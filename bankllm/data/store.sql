-- The schema of a vector store's file (`bankllm.vectors.sqlite.file`): rows with their vectors, and the
-- outbox for Pinecone. Times are seconds since 1970, but for `created_at` (ISO 8601).

-- `removed` counts deleted and replaced texts since the last `maintenance.compact`. `replicates_to` names the Pinecone
-- index; it is absent in a file that is not replicated.
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);

-- `expires_at` is NULL for a row that does not expire.
CREATE TABLE IF NOT EXISTS rows (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    vector BLOB NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    expires_at REAL,
    UNIQUE (namespace, id)
);

-- The index also contains seq (the rowid), so it finds the rows of a namespace after a given seq.
CREATE INDEX IF NOT EXISTS rows_by_namespace ON rows (namespace);

CREATE INDEX IF NOT EXISTS rows_by_expiry ON rows (expires_at, namespace) WHERE expires_at IS NOT NULL;

-- Counts how often a row of the namespace was deleted or got another vector. An empty namespace has no entry, so a
-- deleted customer's name does not remain in the file.
CREATE TABLE IF NOT EXISTS generations (namespace TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;

CREATE TRIGGER IF NOT EXISTS row_removed AFTER DELETE ON rows BEGIN
    INSERT INTO generations VALUES (OLD.namespace, 1)
        ON CONFLICT (namespace) DO UPDATE SET generation = generation + 1;
    DELETE FROM generations WHERE namespace = OLD.namespace
        AND NOT EXISTS (SELECT 1 FROM rows WHERE namespace = OLD.namespace);
    INSERT INTO meta VALUES ('removed', '1') ON CONFLICT (key) DO UPDATE SET value = value + 1;
END;

CREATE TRIGGER IF NOT EXISTS row_replaced AFTER UPDATE OF vector ON rows BEGIN
    INSERT INTO generations VALUES (NEW.namespace, 1)
        ON CONFLICT (namespace) DO UPDATE SET generation = generation + 1;
END;

CREATE TRIGGER IF NOT EXISTS text_replaced AFTER UPDATE OF text ON rows BEGIN
    INSERT INTO meta VALUES ('removed', '1') ON CONFLICT (key) DO UPDATE SET value = value + 1;
END;

-- How long rows are kept, in seconds (NULL: for ever). The namespace '' stands for all customers without their own.
CREATE TABLE IF NOT EXISTS retention (namespace TEXT PRIMARY KEY, ttl_s REAL) WITHOUT ROWID;

-- The hash chain of receipts, see `deletion`.
CREATE TABLE IF NOT EXISTS receipts (number INTEGER PRIMARY KEY, hash TEXT NOT NULL, entry TEXT NOT NULL);

-- Triggers fill the outbox in the transaction of each change. An entry names a row, not a change: the row's state at the
-- time of the push decides between upsert and delete, so a second push is harmless.
CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    -- The row's id, or '' for the whole namespace.
    id TEXT NOT NULL,
    -- Whether Pinecone may have an older state of the row.
    known INTEGER NOT NULL,
    -- When the entry was added.
    queued_at REAL NOT NULL,
    -- Increases with each change; (seq, version) identifies one state of an entry.
    version INTEGER NOT NULL DEFAULT 0,
    -- When Pinecone accepted a delete. The entry stays while searches in Pinecone may still return the row.
    pushed_at REAL,
    -- The error, if Pinecone rejected the entry permanently.
    refused TEXT,
    UNIQUE (namespace, id)
);

CREATE INDEX IF NOT EXISTS outbox_waiting ON outbox (seq, queued_at) WHERE pushed_at IS NULL AND refused IS NULL;

CREATE INDEX IF NOT EXISTS outbox_pushed ON outbox (pushed_at) WHERE pushed_at IS NOT NULL;

CREATE TRIGGER IF NOT EXISTS row_written AFTER INSERT ON rows
    WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'replicates_to') BEGIN
    INSERT INTO outbox (namespace, id, known, queued_at)
        VALUES (NEW.namespace, NEW.id, 0, (julianday('now') - 2440587.5) * 86400.0)
        ON CONFLICT (namespace, id) DO UPDATE SET version = version + 1, refused = NULL,
        queued_at = CASE WHEN pushed_at IS NULL THEN queued_at ELSE excluded.queued_at END, pushed_at = NULL;
END;

CREATE TRIGGER IF NOT EXISTS row_rewritten AFTER UPDATE ON rows
    WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'replicates_to') BEGIN
    INSERT INTO outbox (namespace, id, known, queued_at)
        VALUES (NEW.namespace, NEW.id, 1, (julianday('now') - 2440587.5) * 86400.0)
        ON CONFLICT (namespace, id) DO UPDATE SET version = version + 1, refused = NULL,
        queued_at = CASE WHEN pushed_at IS NULL THEN queued_at ELSE excluded.queued_at END, pushed_at = NULL;
END;

CREATE TRIGGER IF NOT EXISTS row_taken AFTER DELETE ON rows
    WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'replicates_to') BEGIN
    INSERT INTO outbox (namespace, id, known, queued_at)
        VALUES (OLD.namespace, OLD.id, 1, (julianday('now') - 2440587.5) * 86400.0)
        ON CONFLICT (namespace, id) DO UPDATE SET version = version + 1, refused = NULL,
        queued_at = CASE WHEN pushed_at IS NULL THEN queued_at ELSE excluded.queued_at END, pushed_at = NULL;
END;
