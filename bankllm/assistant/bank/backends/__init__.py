"""Banks by the scheme of their address; `bankllm.assistant.bank.ledger.BANKS` finds these modules."""
