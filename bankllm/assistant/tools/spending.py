"""A sum: money out at a merchant, on a category, in a period, or money in; one sum per currency.

Refunds are taken off money out, and are money in from a named merchant only. Transfers between own accounts are
neither, unless the customer asks for them, about money into an account, or about a savings account.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import date, timedelta
from typing import Any

from bankllm.assistant.bank.ledger import Bank, Transaction, TransactionQuery, format_money
from bankllm.assistant.bank.statement import (
    Statement,
    counted,
    money_in_all,
    month,
    query_of,
    table,
)
from bankllm.assistant.facts import TOOLS, Facts, Request, either_way
from bankllm.assistant.tools.averages import Total, averaged, ranked, with_beginning

RANKED = 3
"""Names in a ranking, if the customer names no number."""
AT_SHOPS = ("card", "refund")
"""Kinds of payments that one makes in a shop."""


def counting(rows: Sequence[Transaction], query: TransactionQuery) -> list[Transaction]:
    """Return the rows that count as money in, or as money out where `query.direction` is not `in`."""
    inward = query.direction == "in"
    with_refunds = inward and (query.merchant or query.kind == "refund")
    return [row for row in rows if inward == bool(row.amount_minor > 0 and (with_refunds or row.kind != "refund"))]


def sums(rows: Sequence[Transaction], query: TransactionQuery) -> list[Total]:
    """Return the sums of rows that count, one per currency, that of most rows first."""
    sign = 1 if query.direction == "in" else -1
    totals = []
    for currency in sorted({row.currency for row in rows}):
        own = [row for row in rows if row.currency == currency]
        back = [row.amount_minor for row in own if row.kind == "refund"]
        pending = [row.amount_minor for row in own if row.status == "pending"]
        amount = sign * sum(row.amount_minor for row in own)
        count = len(own) - len(back)
        totals.append(Total(currency, amount, count, sum(back), len(back), sign * sum(pending), len(pending)))
    return sorted(totals, key=lambda total: -total.count - total.refunds)


@TOOLS.register("spending")
@either_way
def look_up(request: Request, bank: Bank) -> Facts:
    query = query_of(request.call.arguments)
    inward = query.direction == "in" or query.kind == "refund"
    kind = next((a.kind for a in bank.accounts(request.customer_id) if a.account_id == query.account_id), None)
    own = query.category == "own transfers" or kind == "savings" or (kind is not None and inward)
    query = replace(query, limit=None, order="newest", direction="in" if inward else None, own_transfers=own)
    per, by = request.call.arguments.get("per", ""), request.call.arguments.get("by", "")
    query = with_beginning(bank, request.customer_id, query, per)
    statement = Statement(bank, request.customer_id, query, request.call.arguments.get("currency"))
    rows = counting(statement.rows, query)
    totals = sums(rows, query) or [Total(statement.currency, 0, 0)]
    result = {
        "direction": "in" if inward else "out",
        "totals": [asdict(total) for total in totals],
        "by_month": sorted(_sums(rows, inward, lambda row: row.booked[:7]), key=lambda each: each["name"]),
        "by_category": _sums(rows, inward, lambda row: row.category),
        **table(rows),
    }
    notes, lead = [statement.note] if statement.note else [], ""
    if query.foreign and (paid := [row for row in rows if row.original_minor]):
        originals = (
            (str(row.original_currency), abs(row.original_minor or 0) * (-1) ** (row.amount_minor > 0)) for row in paid
        )
        notes.append(f"That was {money_in_all(originals)}. I cannot tell where you paid.")
    if per:
        averages = [averaged(total, statement, per) for total in totals if total.count]
        result["averages"] = [average for average, _ in averages]
        notes += [sentence for _, sentence in averages]
    if by == "month":
        months = [
            f"{month(one['name'])} {format_money(one['amount_minor'], one['currency'])}" for one in result["by_month"]
        ]
        notes += [f"By month: {', '.join(months)}."] if months[1:] else []
        lead = _asked_month(result["by_month"], query, request.call.arguments.get("order"), inward)
    elif by:
        of_shops = [row for row in rows if by != "shop" or row.kind in AT_SHOPS]
        result[f"by_{by}"] = names = _sums(of_shops, inward, lambda row: _name(row, by))
        least, limit = request.call.arguments.get("order") == "smallest", request.call.arguments.get("limit", RANKED)
        spent = [one for one in names if one["amount_minor"] > 0]
        notes += [ranked(spent, by, least, limit, inward)] if spent else []
    told = [lead] if lead else []
    text = " ".join([*told, *(_text(total, statement, inward) for total in totals), *notes])
    lines = (*told, *(line for total in totals for line in _lines(total, statement, inward)), *notes)
    return Facts(text, lines, statement.sources, statement.private, result)


def _asked_month(months: Sequence[dict[str, Any]], query: TransactionQuery, order: str | None, inward: bool) -> str:
    """Return a sentence with the month of the largest sum, or of the smallest sum of a whole month, if asked for."""
    first, last = query.date_from or "", query.date_to or ""
    whole = last and (date.fromisoformat(last) + timedelta(days=1)).day == 1
    cut = {first[:7] if first[8:] != "01" else "", "" if whole else last[:7]}
    months = [one for one in months if order == "largest" or one["name"] not in cut]
    if order not in ("largest", "smallest") or not months[1:] or len({one["currency"] for one in months}) > 1:
        return ""
    found = (max if order == "largest" else min)(months, key=lambda one: one["amount_minor"])
    verb, most = "received" if inward else "spent", "most" if order == "largest" else "least"
    return f"You {verb} the {most} in {month(found['name'])}: {format_money(found['amount_minor'], found['currency'])}."


def _name(row: Transaction, by: str) -> str:
    return row.category if by == "category" else row.counterparty or row.description


def _text(total: Total, statement: Statement, inward: bool) -> str:
    amount, refunded = (
        format_money(abs(minor), total.currency) for minor in (total.amount_minor, total.refunded_minor)
    )
    paid = format_money(total.amount_minor + total.refunded_minor, total.currency)
    refunds, when = counted(total.refunds, "refund"), statement.period
    if not total.count and not total.refunds:
        wanted = "refunds" if statement.query.kind == "refund" else "money received" if inward else "payments"
        return f"I found no {wanted}{statement.about('from' if inward else 'to')}{when}."
    if inward:
        text = f"You received {amount}{statement.about('from')}{when}, in {_entries(total)}."
    elif total.amount_minor < 0:
        text = f"You got back {amount} more than you paid{statement.about('at')}{when}."
    elif statement.query.merchant and not statement.is_shop:
        text = f"You paid {amount}{statement.about('to')}{when}, in {counted(total.count, 'payment')}."
    else:
        text = f"You spent {amount}{statement.about('at')}{when}, in {counted(total.count, 'payment')}."
    if total.refunds and not inward:
        text += f" That is {paid} paid, less {refunded} from {refunds}."
    if total.pending:
        text += f" {format_money(total.pending_minor, total.currency)} of it is still pending."
    return text


def _lines(total: Total, statement: Statement, inward: bool) -> list[str]:
    """The facts in the form in which the language model was trained."""
    to_person = statement.query.merchant and statement.rows and not statement.is_shop
    verb = "Received" if inward else "Sent" if to_person else "Spent"
    about = statement.about("from" if inward else "to" if to_person else "at")
    if not (statement.query.merchant or statement.query.category):
        about = f" in total{about}"
    amount = format_money(total.amount_minor, total.currency)
    entries = _entries(total) if inward else counted(total.count, "payment")
    lines = [f"{verb}{about}{statement.listed_period}: {amount} in {entries}"]
    if total.refunds and not inward:
        refunded = format_money(total.refunded_minor, total.currency)
        lines.append(f"Refunds, already taken off: {refunded} in {counted(total.refunds, 'refund')}")
    if total.pending:
        pending = format_money(total.pending_minor, total.currency)
        lines.append(f"Still pending, already included: {pending} in {counted(total.pending, 'payment')}")
    return lines


def _entries(total: Total) -> str:
    """`2 payments`, `1 refund`, or both."""
    payments = [counted(total.count, "payment")] if total.count or not total.refunds else []
    return " and ".join([*payments, *([counted(total.refunds, "refund")] if total.refunds else [])])


def _sums(rows: Sequence[Transaction], inward: bool, key: Callable[[Transaction], str]) -> list[dict[str, Any]]:
    """Sums by name and currency in positive minor units, largest first."""
    sums = Counter[tuple[str, str]]()
    for row in rows:
        sums[key(row), row.currency] += row.amount_minor if inward else -row.amount_minor
    return [
        {"name": name, "currency": currency, "amount_minor": minor} for (name, currency), minor in sums.most_common()
    ]
