"""Actions: what the assistant would do, kept as a proposal on the server until the customer confirms it.

In: a call of an acting tool, resolved to typed arguments. Out: a `Proposal`, and after a yes (`words`) or the button, a
booking. `proposals` owns the state of each proposal, `booking` the checks and the changes of each tool, `audit` the
append-only log. State, booking and log entry change in one transaction of the ledger's file.
"""
