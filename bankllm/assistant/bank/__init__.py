"""The bank's data: the ledger of accounts and transactions, and the knowledge articles."""
