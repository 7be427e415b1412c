-- What the assistant adds to a ledger's file, beside the tables of ledger.sql: proposed actions, payments on hold,
-- hand-overs and the audit log.

CREATE TABLE IF NOT EXISTS actions (
    number INTEGER PRIMARY KEY,
    action_id TEXT NOT NULL UNIQUE,
    customer_id TEXT NOT NULL REFERENCES customers,
    conversation_id TEXT NOT NULL,
    tool TEXT NOT NULL,
    arguments TEXT NOT NULL,
    text TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('proposed', 'booked', 'cancelled', 'expired', 'replaced', 'refused')),
    proposed_at REAL NOT NULL,
    decided_at REAL,
    result TEXT NOT NULL DEFAULT ''
);

CREATE INDEX IF NOT EXISTS actions_of_customer ON actions (customer_id, conversation_id);

CREATE UNIQUE INDEX IF NOT EXISTS actions_waiting ON actions (customer_id, conversation_id) WHERE state = 'proposed';

CREATE TRIGGER IF NOT EXISTS actions_end BEFORE UPDATE ON actions WHEN OLD.state <> 'proposed' BEGIN
    SELECT RAISE(ABORT, 'an action that was decided is never changed');
END;

CREATE TABLE IF NOT EXISTS payment_holds (customer_id TEXT PRIMARY KEY, expires_at REAL NOT NULL);

CREATE TABLE IF NOT EXISTS handovers (handover_id TEXT PRIMARY KEY, expires_at REAL NOT NULL, summary TEXT NOT NULL);

CREATE TABLE IF NOT EXISTS audit (number INTEGER PRIMARY KEY, hash TEXT NOT NULL, entry TEXT NOT NULL);

CREATE TRIGGER IF NOT EXISTS audit_keeps BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER IF NOT EXISTS audit_keeps_all BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- Also for INSERT OR REPLACE, which deletes a row without the trigger above.
CREATE TRIGGER IF NOT EXISTS audit_appends BEFORE INSERT ON audit
    WHEN NEW.number <> (SELECT COALESCE(MAX(number), 0) + 1 FROM audit) BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;
