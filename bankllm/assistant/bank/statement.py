"""How the reading tools put days, periods, accounts and transactions into words, and into rows of a table."""

import calendar
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import date
from typing import Any

from bankllm.assistant.bank.ledger import ABROAD, Bank, Transaction, TransactionQuery, format_money

MAX_ROWS = 100
"""Rows of a table in a result."""
ROW = (
    *("booked", "description", "amount_minor", "currency", "category", "status", "account_id"),
    *("original_currency", "original_minor", "rate"),
)
"""Fields of a transaction in a table, if they have a value."""
TO_PEOPLE = ("transfer", "standing_order", "scheduled_transfer")
"""Kinds of payments whose counterparty is a payee."""
TOGETHER = re.compile(
    r"\b(?:total|sum|together|altogether|combined|in all|overall|between them|across (?:all|both)"
    r"|add(?:ed|s)? (?:\w+ )?(?:up|together)"
    r"|(?:all|both) of (?:them|those|these)|all (?:three|four|five))\b|\+",
    re.IGNORECASE,
)
"""Words of a customer who wants several sums added up."""
QUERY = {field.name for field in fields(TransactionQuery)} - {"own_transfers"}


def query_of(arguments: Mapping[str, Any]) -> TransactionQuery:
    """Return the query that the arguments of a call describe."""
    return TransactionQuery(**{name: value for name, value in arguments.items() if name in QUERY})


def day(of: date | str, year: bool = True) -> str:
    """`3 October 2026`, or `3 October`, of a day or its ISO date."""
    when = date.fromisoformat(of) if isinstance(of, str) else of
    return f"{when.day} {calendar.month_name[when.month]}" + (f" {when.year}" if year else "")


def month(iso: str) -> str:
    """`October 2026`, of `2026-10` or a day in it."""
    return f"{calendar.month_name[int(iso[5:7])]} {iso[:4]}"


def month_total(total: Mapping[str, Any]) -> str:
    """`£958.20 received in October 2026`, of a `month` and its `amount_minor` in a `currency`."""
    amount, way = total["amount_minor"], "received" if total["amount_minor"] > 0 else "paid"
    return f"{format_money(abs(amount), total['currency'])} {way} in {month(total['month'])}"


def period(first: str | None, last: str | None) -> str:
    """The period in a sentence: ` in October 2026 (1 to 31 October)`, ` on 3 October 2026`, ` since 1 May 2026`."""
    if not first or not last:
        return f" since {day(first)}" if first else f" until {day(last)}" if last else ""
    if first == last:
        return f" on {day(first)}"
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    ends_month = end.day == calendar.monthrange(end.year, end.month)[1]
    begin = day(first, start.year != end.year)
    if first[:7] == last[:7]:
        days = f"{start.day} to {day(last, year=False)}"
        return f" in {month(last)} ({days})" if start.day == 1 and ends_month else f" from {days} {end.year}"
    if (start.month, start.day, end.month) == (1, 1, 12) and ends_month and start.year == end.year:
        return f" in {end.year} ({begin} to {day(last, year=False)})"
    return f" from {begin} to {day(last)}"


def listed_period(first: str | None, last: str | None) -> str:
    """The period in a fact for a language model: `, 1 October 2026 to 31 October 2026`."""
    if first and last and first != last:
        return f", {day(first)} to {day(last)}"
    return f",{period(first, last)}".replace(", on ", ", ") if first or last else ""


def money(row: Transaction) -> str:
    """The amount with its sign, and what else there is to say of it: `-£31.44 (€36.50, pending)`."""
    sign = "+" if row.amount_minor > 0 else ""
    notes = []
    if row.original_minor is not None and row.original_currency not in (None, row.currency):
        notes.append(format_money(row.original_minor, str(row.original_currency)))
    if row.status == "pending":
        notes.append("pending")
    amount = f"{sign}{format_money(row.amount_minor, row.currency)}"
    return f"{amount} ({', '.join(notes)})" if notes else amount


def line(row: Transaction) -> str:
    """`3 October 2026 Tesco -£23.40`."""
    return f"{day(row.booked)} {row.description} {money(row)}"


def table(rows: Sequence[Transaction]) -> dict[str, Any]:
    """The first `MAX_ROWS` rows as JSON, and how many there are."""
    shown = [{name: value for name in ROW if (value := getattr(row, name)) is not None} for row in rows[:MAX_ROWS]]
    return {"rows": shown, "count": len(rows)}


def money_in_all(amounts: Iterable[tuple[str, int]]) -> str:
    """Add up amounts, pairs of a currency and minor units, by currency: `£52.00 and €8.00`."""
    total = Counter[str]()
    for currency, minor in amounts:
        total[currency] += minor
    return " and ".join(format_money(minor, currency) for currency, minor in total.items())


def counted(number: int, noun: str) -> str:
    """`1 payment`, `14 payments`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Statement:
    """The customer's accounts and transactions that a query is about, and its conditions in words."""

    def __init__(self, bank: Bank, customer_id: str, query: TransactionQuery, currency: str | None = None) -> None:
        """`currency` is that of the least and the largest amount; without it all currencies count.

        Raises what the bank raises.
        """
        self.query = query
        every = bank.accounts(customer_id)
        self._names = {a.account_id: f"the {a.name}" for a in every}
        self.accounts = [a for a in every if query.account_id in (None, a.account_id)]
        self.rows = [r for r in bank.transactions(customer_id, query) if currency in (None, r.currency)]
        if query.foreign == ABROAD:
            self.rows = [row for row in self.rows if row.original_currency not in (None, row.currency)]
        elif query.foreign:
            self.rows = [row for row in self.rows if query.foreign in (row.currency, row.original_currency)]
        if query.kind == "own_transfer" and query.direction == "in":  # of a joint account, not the other holder's
            sent = bank.transactions(customer_id, TransactionQuery(kind="own_transfer", direction="out"))
            own = {(row.booked, -row.amount_minor) for row in sent}
            self.rows = [row for row in self.rows if (row.booked, row.amount_minor) in own]
        if query.described:
            self.rows = [row for row in self.rows if query.described in row.description.lower()]
        for part in query.without:
            left_out = set(bank.transactions(customer_id, replace(query, limit=None, **part)))
            self.rows = [row for row in self.rows if row not in left_out]
        self.currency = currency or self.accounts[0].currency
        self.sources = tuple(f"ledger:{account.account_id}" for account in self.accounts)
        first = query.date_from
        if not first and not query.date_to and self.rows:
            first = min(row.booked for row in self.rows)
        self.period, self.listed_period = period(first, query.date_to), listed_period(first, query.date_to)
        oldest = bank.transactions(customer_id, TransactionQuery(order="oldest", limit=1)) if query.date_from else ()
        missing = oldest and (query.date_from or "") < oldest[0].booked
        self.note = f"The records of your payments begin on {day(oldest[0].booked)}." if missing else ""
        """What the customer may not expect: a period that begins before the records, a currency without an account."""
        held = sorted({account.currency for account in self.accounts})
        if currency not in (None, *held):
            self.note = f"You have no account in {currency}, only in {', '.join(held)}."
        people = (row.counterparty for row in self.rows if row.kind in TO_PEOPLE and row.counterparty)
        self.private = tuple(dict.fromkeys(people))
        """See `Facts.private`."""
        self.is_shop = any(row.kind in ("card", "refund") for row in self.rows)
        """Whether one pays at the counterparty, and not to a person or company."""

    def about(self, merchant: str) -> str:
        """The conditions without the period: ` at Tesco from the Joint account`, where `merchant` is `at`."""
        query = self.query
        words = f" {merchant} {query.merchant}" if query.merchant else ""
        about = query.described or query.category
        words += f" {'from' if query.direction == 'in' else 'on'} {about}" if about else ""
        if query.minimum_minor is not None and query.minimum_minor == query.maximum_minor:
            words += f" of exactly {format_money(query.minimum_minor, self.currency)}"
        elif query.minimum_minor is not None:
            words += f" of {format_money(query.minimum_minor, self.currency)} or more"
        if query.maximum_minor not in (None, query.minimum_minor):
            words += " and" if query.minimum_minor is not None else " of"
            words += f" {format_money(query.maximum_minor or 0, self.currency)} or less"
        words += {"card": " by card", "own_transfer": " from your other accounts"}.get(query.kind or "", "")
        left_out = [
            self._names.get(value, value.replace("_", " ")) for part in query.without for value in part.values()
        ]
        words += f" without {' and '.join(left_out)}" if left_out else ""
        foreign = "other currencies" if query.foreign == ABROAD else query.foreign
        words += f" in {foreign}" if foreign else ""
        words += f" still {query.status}" if query.status == "pending" else ""
        if query.account_id:
            words += f" {'into' if query.direction == 'in' else 'from'} the {self.accounts[0].name}"
        return words
