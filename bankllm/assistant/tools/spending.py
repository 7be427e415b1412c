"""A sum: money out at a merchant, on a category, in a period, or money in; one sum per currency.

Refunds are taken off money out, and are money in from a named merchant only. Transfers between own accounts are
neither, unless the customer asks for them, about money into an account, or about a savings account.
"""

import re
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations, pairwise
from typing import Any

from bankllm.assistant.bank.ledger import Bank, Transaction, TransactionQuery, format_money
from bankllm.assistant.bank.statement import (
    TOGETHER,
    Statement,
    counted,
    money_in_all,
    month,
    month_total,
    period,
    query_of,
    table,
)
from bankllm.assistant.facts import TOOLS, Facts, Request, either_way
from bankllm.assistant.tools.averages import Total, averaged, ranked, with_beginning

SUMMED = {
    "standing_orders": ("order_id", "amount_minor", " each month"),
    "balance": ("account_id", "balance_minor", ""),
}
"""Other tools whose answers are summed: their columns of a row's id and amount, and what the sum is per."""
RANKED = 3
"""Names in a ranking, if the customer names no number."""
DIFFERENCE = re.compile(
    r"\b(?:more|less|(?:dear|pric|cheap|high|low|bigg)i?er|diff\w*|compared?|versus|vs|than|change[ds]?|"
    r"by how much|up or down|per ?cent\w*)\b",
    re.IGNORECASE,
)
"""Words of a customer who compares two sums."""
LEFT = re.compile(r"\b(?:left|leaves?|minus|less|enough|afford|cover|saved?|put (?:by|aside|away))\b", re.IGNORECASE)
PERCENT = re.compile(r"%|\bper ?cent", re.IGNORECASE)
DAYS = frozenset(("date_from", "date_to"))
SUBJECTS = frozenset(("merchant", "category"))
ACCOUNT = frozenset(("account_id",))
DIFFERS = DAYS | SUBJECTS | ACCOUNT
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
    notes = [statement.note] if statement.note else []
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
    elif by:
        of_shops = [row for row in rows if by != "shop" or row.kind in AT_SHOPS]
        result[f"by_{by}"] = names = _sums(of_shops, inward, lambda row: _name(row, by))
        least, limit = request.call.arguments.get("order") == "smallest", request.call.arguments.get("limit", RANKED)
        spent = [one for one in names if one["amount_minor"] > 0]
        notes += [ranked(spent, by, least, limit, inward)] if spent else []
    text = " ".join([*(_text(total, statement, inward) for total in totals), *notes])
    lines = (*(line for total in totals for line in _lines(total, statement, inward)), *notes)
    return Facts(text, lines, statement.sources, statement.private, result)


def together(answers: Sequence[tuple[Request, Facts]]) -> Facts | None:
    """Return the sum of the sums of several merchants, categories or periods, or the difference of two if it is asked.

    None if the sums are in several currencies, or differ in other arguments; no sum if a payment could be in two parts
    of it.
    """
    if len(answers) < 2:
        return None
    asked = [dict(request.call.arguments) for request, _ in answers]
    results = [facts.result or {} for _, facts in answers]
    tools = {request.call.tool for request, _ in answers}
    wanted = tools == {"standing_orders"} or TOGETHER.search(answers[0][0].message)
    if tools == {"standing_orders"} and all("by_month" in result for result in results):
        return _months_in_all([one for result in results for one in result["by_month"]], len(results))
    if tools <= SUMMED.keys() and len(tools) == 1 and wanted:
        return _in_all([row for result in results for row in result.get("rows", ())], *SUMMED[tools.pop()])
    if len(asked) == 2 and tools == {"balance"} and DIFFERENCE.search(answers[0][0].message):
        return _changed(*(result.get("rows", ()) for result in results))
    if tools == {"balance", "standing_orders"} and LEFT.search(answers[0][0].message):
        return _left_after(results)
    if tools != {"spending"}:
        return None
    totals = [Total(**total) for result in results for total in result.get("totals", ())]
    one_each = all(len(result.get("totals", ())) == 1 for result in results)
    if not one_each or len({total.currency for total in totals}) > 1:
        return None
    message, currency = answers[0][0].message, totals[0].currency
    differ = {name for one in asked for name in one if any(one[name] != other.get(name) for other in asked)}
    if (
        len(asked) == 2
        and {one.get("direction") for one in asked} > {"in"}
        and differ == {"direction"}
        and (DIFFERENCE.search(message) or LEFT.search(message))
    ):
        gained = sum(
            total.amount_minor * (1 if one.get("direction") == "in" else -1)
            for one, total in zip(asked, totals, strict=True)
        )
        return Facts(f"That is {format_money(abs(gained), currency)} {'more' if gained > 0 else 'less'} in than out.")
    if not differ or not differ <= DIFFERS:
        return None
    sentences, compares = list[str](), DIFFERENCE.search(message)
    alike = any(differ <= one for one in (SUBJECTS, DAYS, ACCOUNT))
    if alike and (TOGETHER.search(message) or not compares) and _apart(asked, results, differ):
        amount, back = (sum(getattr(one, name) for one in totals) for name in ("amount_minor", "refunded_minor"))
        less = f", {format_money(amount + back, currency)} paid less {format_money(back, currency)} in refunds"
        count = counted(sum(total.count for total in totals), "payment")
        sentences.append(f"Together that is {format_money(amount, currency)} in {count}{less if back else ''}.")
        units = sum(one.get("units", 0) for result in results for one in result.get("averages", ()))
        if differ <= DAYS and units:
            each = f"{format_money(round(amount / units), currency)} a {asked[0]['per']}"
            sentences.append(f"That is {each} on average over {units:g} {asked[0]['per']}s.")
    if len(asked) == 2 and compares:
        first, second = (_label(one, differ) for one in asked)
        more = totals[0].amount_minor - totals[1].amount_minor
        much = f"{format_money(abs(more), currency)} {'more' if more > 0 else 'less'}"
        if PERCENT.search(message) and totals[1].amount_minor > 0:
            much += f" ({abs(more) / totals[1].amount_minor:.0%})"
        sentences.append(f"That is {much}{first} than{second}." if more else "Both are the same.")
    return Facts(" ".join(sentences)) if sentences else None


def _apart(asked: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]], differ: set[str]) -> bool:
    """Whether no payment is in two of the sums."""
    if len({one.get("merchant") for one in asked}) == len(asked) and all("merchant" in one for one in asked):
        return True
    if all(one.keys() >= DAYS for one in asked) and DAYS & differ:
        days = sorted((one["date_from"], one["date_to"]) for one in asked)
        return all(last < first for (_, last), (first, _) in pairwise(days))
    if differ == ACCOUNT:
        return True
    if any(result["count"] > len(result["rows"]) for result in results):
        return False
    return all(row not in other["rows"] for one, other in combinations(results, 2) for row in one["rows"])


def _left_after(results: Sequence[Mapping[str, Any]]) -> Facts | None:
    """What the balances are less the regular payments, account by account."""
    rows = [row for result in results for row in result.get("rows", ())]
    due = Counter[str]()
    for row in rows:
        due[row["account_id"]] += row["amount_minor"] if "order_id" in row else 0
    left = [
        f"your {row['name']} has {format_money(row['balance_minor'] - due[row['account_id']], row['currency'])}"
        for row in rows
        if "balance_minor" in row and due[row["account_id"]]
    ]
    those = "that payment" if sum("order_id" in row for row in rows) == 1 else "these payments"
    return Facts(f"After {those}, and if nothing else is paid, {' and '.join(left)}.") if left else None


def _changed(rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> Facts:
    """How the first balances differ from the other ones, account by account."""
    before = {row["account_id"]: row["balance_minor"] for row in others}
    told = [
        f"{row['name']} {format_money(abs(minor), row['currency'])} {'more' if minor > 0 else 'less'}"
        for row in rows
        for minor in [row["balance_minor"] - before.get(row["account_id"], row["balance_minor"])]
        if minor
    ]
    return Facts(f"The first compared with the second: {'; '.join(told)}." if told else "Both are the same.")


def _label(asked: Mapping[str, Any], differ: Container[str]) -> str:
    """What of a call differs from the other one: ` in October 2026 (1 to 31 October)`, ` at Tesco`, ` on coffee`."""
    named = [
        f" {word} {asked[name]}"
        for name, word in (("merchant", "at"), ("category", "on"))
        if name in differ and name in asked
    ]
    return "".join(named) + (period(asked.get("date_from"), asked.get("date_to")) if "date_to" in differ else "")


def _name(row: Transaction, by: str) -> str:
    return row.category if by == "category" else row.counterparty or row.description


def _in_all(rows: Sequence[Mapping[str, Any]], identity: str, amount: str, when: str) -> Facts | None:
    """The sum of regular payments, or of balances, in one currency, each counted once."""
    amounts = {row[identity]: row[amount] for row in rows}
    currencies = {row["currency"] for row in rows}
    if len(amounts) < 2 or len(currencies) > 1:
        return None
    return Facts(f"Together that is {format_money(sum(amounts.values()), currencies.pop())}{when}.")


def _months_in_all(months: Sequence[Mapping[str, Any]], names: int) -> Facts | None:
    """The sums of each month in which all names were paid or paid in, in one currency."""
    by_month: dict[str, list[Mapping[str, Any]]] = {}
    for each in months:
        by_month.setdefault(each["month"], []).append(each)
    whole = [rows for rows in by_month.values() if len(rows) == names and len({row["currency"] for row in rows}) == 1]
    sums = [{**rows[0], "amount_minor": sum(row["amount_minor"] for row in rows)} for rows in whole]
    return Facts(f"Together that is {'; '.join(map(month_total, sums))}.") if sums else None


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
