"""Actions: what the assistant would do, kept as a proposal on the server until the customer confirms it.

In: a call of an acting tool, resolved to typed arguments. Out: a `Proposal`, and after a yes (`yes_no`, `answers`) or
the button, a booking. `proposals` owns the state of each proposal; `plans`, `transfers` and `cards` check and change
the ledger; `audit` is the append-only log. All of it changes in one transaction of the ledger's file.
"""
