-- The schema of a ledger: one SQLite file (BANKLLM_LEDGER=sqlite:PATH, or `demo:`).
-- Amounts are integers in minor units (pence, cents). Dates are ISO 8601.
-- The journal is double-entry: the postings of an entry sum to zero in each currency (view `unbalanced` is empty).
-- A posting is positive for money into its account. An account of kind `internal` belongs to nobody: it is the other side
-- of payments to and from outside the bank, and of currency exchange. A balance is the sum of an account's postings.

CREATE TABLE customers (customer_id TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE accounts (
    account_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('current', 'savings', 'joint', 'travel', 'credit', 'internal')),
    name TEXT NOT NULL,
    currency TEXT NOT NULL,
    sort_code TEXT NOT NULL DEFAULT '',
    account_number TEXT NOT NULL DEFAULT '',
    iban TEXT NOT NULL DEFAULT '',
    opened TEXT NOT NULL,
    -- How far the balance may go below zero: an overdraft, or the credit limit of a credit card.
    overdraft_minor INTEGER NOT NULL DEFAULT 0 CHECK (overdraft_minor >= 0)
) WITHOUT ROWID;

-- Who owns an account; a joint account has several holders.
CREATE TABLE holders (
    customer_id TEXT NOT NULL REFERENCES customers,
    account_id TEXT NOT NULL REFERENCES accounts,
    PRIMARY KEY (customer_id, account_id)
) WITHOUT ROWID;

-- Spending categories. A group such as `eating out` is the parent of several.
CREATE TABLE categories (name TEXT PRIMARY KEY, parent TEXT NOT NULL DEFAULT '') WITHOUT ROWID;

CREATE TABLE merchants (name TEXT PRIMARY KEY, category TEXT NOT NULL REFERENCES categories) WITHOUT ROWID;

CREATE TABLE entries (
    entry_id INTEGER PRIMARY KEY,
    booked TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('opening', 'card', 'direct_debit', 'standing_order', 'transfer', 'own_transfer',
        'cash', 'credit', 'interest', 'fee', 'refund')),
    description TEXT NOT NULL,
    counterparty TEXT,             -- a merchant, a payee or an employer; NULL for cash, fees, interest, own transfers
    category TEXT NOT NULL REFERENCES categories,
    reference TEXT NOT NULL DEFAULT '',
    original_currency TEXT,        -- of a payment in a foreign currency, with the rate:
    original_minor INTEGER,        -- 1 unit of the original currency is `rate` units of the account's currency
    rate REAL
);

CREATE TABLE postings (
    account_id TEXT NOT NULL REFERENCES accounts,
    booked TEXT NOT NULL,          -- as the entry's
    entry_id INTEGER NOT NULL REFERENCES entries,
    amount_minor INTEGER NOT NULL,
    PRIMARY KEY (account_id, booked, entry_id)
) WITHOUT ROWID;

CREATE INDEX postings_of_entry ON postings (entry_id);

-- Card payments that the merchant has not collected: they reduce the available amount, not the balance.
CREATE TABLE pending (
    pending_id INTEGER PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts,
    authorised TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor < 0),
    description TEXT NOT NULL,
    counterparty TEXT,
    category TEXT NOT NULL REFERENCES categories,
    original_currency TEXT,
    original_minor INTEGER,
    rate REAL
);

CREATE INDEX pending_of_account ON pending (account_id);

CREATE TABLE cards (
    card_id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers,
    account_id TEXT NOT NULL REFERENCES accounts,
    kind TEXT NOT NULL CHECK (kind IN ('debit', 'credit')),
    name TEXT NOT NULL,
    last4 TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('active', 'frozen', 'lost', 'stolen', 'ordered', 'expired')),
    since TEXT NOT NULL,           -- the date of the status
    expires TEXT NOT NULL,         -- YYYY-MM; the card works until the end of that month
    limit_minor INTEGER NOT NULL   -- spending limit a day
) WITHOUT ROWID;

CREATE TABLE payees (
    payee_id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers,
    name TEXT NOT NULL,
    currency TEXT NOT NULL,
    sort_code TEXT NOT NULL DEFAULT '',
    account_number TEXT NOT NULL DEFAULT '',
    saved TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE standing_orders (
    order_id TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts,
    kind TEXT NOT NULL CHECK (kind IN ('standing_order', 'direct_debit', 'subscription')),
    name TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    day INTEGER NOT NULL,          -- of each month
    next_due TEXT NOT NULL,
    reference TEXT NOT NULL DEFAULT '',
    ended TEXT                     -- the date on which the customer ended it
) WITHOUT ROWID;

-- Transfers for a later day, which a customer may still cancel.
CREATE TABLE scheduled (
    scheduled_id TEXT PRIMARY KEY,
    customer_id TEXT NOT NULL REFERENCES customers,
    account_id TEXT NOT NULL REFERENCES accounts,
    payee_id TEXT REFERENCES payees,
    to_account_id TEXT REFERENCES accounts,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    due TEXT NOT NULL,
    reference TEXT NOT NULL DEFAULT '',
    status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'cancelled', 'booked'))
) WITHOUT ROWID;

-- The views below have the columns that `bank/ledger.py` names, and customer_id.
CREATE VIEW customer_cards AS
    SELECT c.customer_id, card_id, account_id, c.kind, c.name, last4, status, since, expires, limit_minor, currency
    FROM cards c JOIN accounts USING (account_id);

CREATE VIEW customer_payees AS
    SELECT customer_id, payee_id, name, currency, sort_code, account_number, saved FROM payees;

CREATE VIEW customer_standing_orders AS
    SELECT customer_id, order_id, account_id, s.kind, s.name, amount_minor, currency, day, next_due, reference
    FROM standing_orders s JOIN accounts USING (account_id) JOIN holders USING (account_id) WHERE ended IS NULL;

-- What a customer sees: booked and pending transactions of an account, money in positive.
CREATE VIEW transactions AS
    SELECT account_id, postings.booked, amount_minor, currency, description, counterparty, category, entries.kind,
        'booked' AS status, reference, original_currency, original_minor, rate, entry_id AS number
    FROM postings JOIN entries USING (entry_id) JOIN accounts USING (account_id)
    UNION ALL
    SELECT account_id, authorised, amount_minor, currency, description, counterparty, category, 'card',
        'pending', '', original_currency, original_minor, rate, pending_id
    FROM pending JOIN accounts USING (account_id);

CREATE VIEW unbalanced AS
    SELECT entry_id, currency, SUM(amount_minor) AS amount_minor FROM postings JOIN accounts USING (account_id)
    GROUP BY entry_id, currency HAVING SUM(amount_minor) <> 0;

CREATE TRIGGER entries_stay BEFORE UPDATE ON entries
    BEGIN SELECT RAISE(ABORT, 'a booked entry is never changed; book another one'); END;

CREATE TRIGGER entries_remain BEFORE DELETE ON entries
    BEGIN SELECT RAISE(ABORT, 'a booked entry is never deleted; book another one'); END;

CREATE TRIGGER postings_stay BEFORE UPDATE ON postings
    BEGIN SELECT RAISE(ABORT, 'a posting is never changed; book another entry'); END;

CREATE TRIGGER postings_remain BEFORE DELETE ON postings
    BEGIN SELECT RAISE(ABORT, 'a posting is never deleted; book another entry'); END;
