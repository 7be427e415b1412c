"""What several answers come to together: the sum of sums, the difference of two, what is left after payments."""

import re
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from bankllm.assistant.bank.ledger import format_money
from bankllm.assistant.bank.statement import TOGETHER, counted, month_total, period
from bankllm.assistant.facts import Facts, Request
from bankllm.assistant.tools.averages import Total

SUMMED = {
    "standing_orders": ("order_id", "amount_minor", " each month"),
    "balance": ("account_id", "balance_minor", ""),
}
"""Other tools whose answers are summed: their columns of a row's id and amount, and what the sum is per."""
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
