-- Book the payments of the temporary table `paid`, whose rows `backends/demo_bank.py` generated. `:first` is the first day
-- of the ledger, `:day` the last one. Card payments of the last two days are pending.

DELETE FROM paid WHERE day > :day;

INSERT INTO pending
    SELECT row_number() OVER (ORDER BY day, name, account_id, rowid), account_id, day, minor, name, name, category,
        original_currency, original_minor, rate
    FROM paid WHERE kind = 'card' AND day > date(:day, '-2 days');

DELETE FROM paid WHERE kind = 'card' AND day > date(:day, '-2 days');

-- The opening balances lead to the closing ones.
INSERT INTO paid (day, kind, name, category, account_id, minor)
    SELECT :first, 'opening', 'Opening balance', 'opening', account_id, minor
        - (SELECT COALESCE(SUM(minor), 0) FROM paid p WHERE p.account_id = closing.account_id)
        - (SELECT COALESCE(SUM(target_minor), 0) FROM paid p WHERE p.target = closing.account_id)
    FROM closing;

CREATE TEMP TABLE numbered AS
    SELECT row_number() OVER (ORDER BY kind <> 'opening', day, name, account_id, rowid) AS number, *,
        (SELECT currency FROM accounts a WHERE a.account_id = paid.account_id) AS currency,
        (SELECT currency FROM accounts a WHERE a.account_id = paid.target) AS target_currency
    FROM paid;

INSERT INTO entries
    SELECT number, day, kind, name || CASE kind WHEN 'refund' THEN ' refund' ELSE '' END,
        CASE WHEN kind NOT IN ('opening', 'cash', 'interest', 'fee', 'own_transfer') THEN name END,
        category, '', original_currency, original_minor, rate
    FROM numbered;

INSERT INTO postings
    SELECT account_id, day, number, minor FROM numbered
    UNION ALL
    SELECT target, day, number, target_minor FROM numbered WHERE target IS NOT NULL
    UNION ALL
    SELECT 'OUTSIDE-' || currency, day, number, -minor FROM numbered WHERE target_currency IS NOT currency
    UNION ALL
    SELECT 'OUTSIDE-' || target_currency, day, number, -target_minor FROM numbered WHERE target_currency <> currency;

ANALYZE main
