"""The bank's side of a chat: the ledger of accounts, the knowledge articles, and the redaction of account numbers."""
