"""Questions whose right answers are computed before a load, from the rows that the server's API returns of its ledger.

run_load(server.url, "open-loop", questions=questions_of(server.url, customers), ...)
"""

import calendar
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bankllm.assistant.bank.ledger import format_money
from bankllm.loadtest.reply_outcomes import LedgerQuestion
from bankllm.loadtest.runner import call_server

MONTHS = 3
"""The latest complete months about which is asked."""
FREQUENT = 4
"""Categories, and merchants, about which a customer asks: the most frequent ones."""
LISTED = 5
"""The longest list that is asked for; a language model gets no more rows (`assistant.tools.transactions`)."""
Row = Mapping[str, Any]


def questions_of(url: str, customers: Sequence[str], tokens: Mapping[str, str] | None = None) -> list[LedgerQuestion]:
    """Return questions about sums, lists, the largest payment and balances, in a fixed order.

    `tokens` is customer id → bearer token. Raises `ServerError` if the server does not return the rows.
    """
    found: list[LedgerQuestion] = []
    for customer in customers:
        addresses = (f"{url}/api/v1/customers/{customer}/{what}" for what in ("transactions", "accounts"))
        rows, accounts = (call_server("GET", each, (tokens or {}).get(customer)).json() for each in addresses)
        for text, required, allowed in [*_about_payments(rows), *_about_balances(accounts)]:
            found.append(LedgerQuestion(customer, text, required, allowed))
    return found


def _about_payments(rows: Sequence[Row]) -> Iterator[tuple[str, list[str], list[str]]]:
    paid = [row for row in rows if row["kind"] != "own_transfer" and (row["amount_minor"] < 0 or _refund(row))]
    shops = [row for row in paid if row["kind"] in ("card", "refund", "direct_debit")]
    for month in sorted({row["booked"][:7] for row in paid})[-1 - MONTHS : -1]:
        name = f"{calendar.month_name[int(month[5:])]} {month[:4]}"
        mine = [row for row in paid if row["booked"].startswith(month)]
        for column, words in (("category", "How much did I spend on {} in {}?"), ("counterparty", "total at {} in {}")):
            for value, _ in Counter(row[column] for row in shops if row in mine).most_common(FREQUENT):
                chosen = [row for row in mine if row[column] == value]
                yield (words.format(value, name), *_sums(chosen))
                if column == "counterparty" and len(chosen) <= LISTED:
                    paid_each, other = _amounts(chosen)
                    sums, parts = _sums(chosen)
                    yield (f"Show my payments to {value} in {name}.", paid_each, [*other, *sums, *parts])
        largest = max((row for row in mine if not _refund(row)), key=lambda row: -row["amount_minor"])
        yield (f"What was my largest payment in {name}?", *_amounts([largest]))


def _about_balances(accounts: Sequence[Row]) -> Iterator[tuple[str, list[str], list[str]]]:
    for account in accounts:
        balance, pending, overdraft = (account[f"{name}_minor"] for name in ("balance", "pending", "overdraft"))
        also = (balance + pending + overdraft, pending, overdraft)
        required, *allowed = (_money(minor, account["currency"]) for minor in (balance, *also))
        yield f"What is the balance of my {account['name'].lower()}?", [required], allowed


def _sums(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """The sum of money out less refunds, and its parts, per currency."""
    required, allowed = [], []
    for currency in {row["currency"] for row in rows}:
        mine = [row for row in rows if row["currency"] == currency]
        refunded = sum(row["amount_minor"] for row in mine if _refund(row))
        pending = sum(row["amount_minor"] for row in mine if row["status"] == "pending")
        total = sum(row["amount_minor"] for row in mine)
        required.append(_money(total, currency))
        allowed += [_money(minor, currency) for minor in (total - refunded, refunded, pending)]
    return required, allowed


def _amounts(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """The amounts of payments; refunds and amounts in a foreign currency are allowed."""
    paid = [_money(row["amount_minor"], row["currency"]) for row in rows if not _refund(row)]
    refunded = [_money(row["amount_minor"], row["currency"]) for row in rows if _refund(row)]
    foreign = [_money(row["original_minor"], row["original_currency"]) for row in rows if row["original_currency"]]
    return paid, refunded + foreign


def _refund(row: Row) -> bool:
    return bool(row["kind"] == "refund")


def _money(minor: int, currency: str) -> str:
    return format_money(abs(minor), currency)
