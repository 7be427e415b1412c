"""The customer's latest transactions, as many as the message asks for."""

from bankllm.assistant.bank.ledger import Bank, Transaction, TransactionQuery, format_money
from bankllm.assistant.facts import TOOLS, Facts, Request, counted
from bankllm.assistant.followups import wanted_count

USUAL_COUNT = 5
"""Transactions in a reply if the customer names no number."""


@TOOLS.register("transactions")
def look_up(request: Request, bank: Bank) -> Facts:
    rows = bank.transactions(request.customer_id, TransactionQuery(limit=wanted_count(request.message, USUAL_COUNT)))
    accounts = rows or bank.accounts(request.customer_id)
    sources = tuple(f"ledger:{account_id}" for account_id in dict.fromkeys(row.account_id for row in accounts))
    lines = [f"{row.booked} {row.description} {format_money(row.amount_minor, row.currency)}" for row in rows]
    text = f"Your latest transactions: {'; '.join(lines)}."
    return Facts(
        text if rows else "There are no transactions in your accounts yet.",
        (counted(rows, "latest transaction"), *map(_line, rows)),
        sources,
    )


def _line(row: Transaction) -> str:
    amount, unsigned = format_money(row.amount_minor, row.currency), format_money(abs(row.amount_minor), row.currency)
    direction = "paid out" if row.amount_minor < 0 else "paid in"
    return f"{row.booked}: {row.description}, {amount} ({unsigned} {direction})"
