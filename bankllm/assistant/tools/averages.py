"""What a sum says beyond itself: an average by time or by payment, and the names with the largest sums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from typing import Any

from bankllm.assistant.bank.ledger import Bank, TransactionQuery, format_money
from bankllm.assistant.bank.statement import Statement
from bankllm.assistant.bank.time_units import first_whole, units

ALMOST_WHOLE = 0.1
"""Part of a unit that may be missing from an average over whole ones."""


@dataclass(frozen=True)
class Total:
    """A sum in one currency."""

    currency: str
    amount_minor: int
    """Money out less refunds, or money in."""
    count: int
    """Number of payments, without refunds."""
    refunded_minor: int = 0
    refunds: int = 0
    """Number of refunds."""
    pending_minor: int = 0
    """The part of `amount_minor` that is pending."""
    pending: int = 0


def with_beginning(bank: Bank, customer_id: str, query: TransactionQuery, per: str) -> TransactionQuery:
    """Return the query of an average with its first day, if it has none: that of the first of its units."""
    if per in ("", "payment") or query.date_from or not query.date_to:
        return query
    oldest = bank.transactions(customer_id, replace(query, order="oldest", limit=1))
    if not oldest:
        return replace(query, date_to=None)  # all payments are of a unit that is not over
    first = first_whole(per, date.fromisoformat(oldest[0].booked), date.fromisoformat(query.date_to))
    return replace(query, date_from=first.isoformat())


def averaged(total: Total, statement: Statement, per: str) -> tuple[dict[str, Any], str]:
    """Return the average of a sum of payments, and how it was computed, as data and as a sentence."""
    currency, paid = total.currency, total.amount_minor + total.refunded_minor
    each = round(Fraction(paid, total.count))
    found: dict[str, Any] = {"currency": currency, "per": per, "payments": total.count, "payment_minor": each}
    if per == "payment":
        return found, f"That is {format_money(each, currency)} for each payment on average."
    query, days = statement.query, [row.booked for row in statement.rows]
    first, last = query.date_from or min(days), query.date_to or max(days)
    number = units(per, date.fromisoformat(first), date.fromisoformat(last))
    if abs(number - round(number)) < ALMOST_WHOLE:
        number = Fraction(round(number))  # the month that is nearly over counts as a whole one
    found["units"] = round(float(number), 2)
    if number < 1:
        return found, f"That is less than one {per}, so that I give no average."
    average, shown = round(total.amount_minor / number), f"{float(number):,.2f}".rstrip("0").rstrip(".")
    often = f"{float(total.count / number):.1f}".removesuffix(".0")
    often += " payment" if often == "1" else " payments"
    text = (
        f"That is {format_money(average, currency)} a {per} on average over {shown} {per}{'s' * (number != 1)}: "
        f"{often} a {per}, of {format_money(each, currency)} on average."
    )
    return {**found, "amount_minor": average}, text


def ranked(names: Sequence[Mapping[str, Any]], by: str, least: bool, limit: int, inward: bool) -> str:
    """Return a sentence with the names that have the largest sums, or the smallest ones. `names` are largest first."""
    shown = [f"{one['name']} ({format_money(one['amount_minor'], one['currency'])})" for one in names]
    first, *others = (shown[::-1] if least else shown)[:limit]
    went = "came from" if inward else "went on" if by == "category" else "went to"
    more = f", then {', '.join(others)}" if others else ""
    return f"{'Least' if least else 'Most'} {went} {first}{more}."
