-- What a ledger of schema 1 lacks: an ended standing order stays, with its day.

ALTER TABLE standing_orders ADD COLUMN ended TEXT;

DROP VIEW customer_standing_orders;

CREATE VIEW customer_standing_orders AS
    SELECT customer_id, order_id, account_id, s.kind, s.name, amount_minor, currency, day, next_due, reference
    FROM standing_orders s JOIN accounts USING (account_id) JOIN holders USING (account_id) WHERE ended IS NULL;

PRAGMA user_version = 2;
