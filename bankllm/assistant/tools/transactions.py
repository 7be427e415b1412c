"""A list of payments: the latest ones, or those that meet all conditions of the call."""

from collections.abc import Sequence
from dataclasses import replace

from bankllm.assistant.bank.ledger import Bank, Transaction, TransactionQuery, format_money
from bankllm.assistant.bank.statement import MAX_ROWS, TOGETHER, Statement, counted, line, money_in_all, query_of, table
from bankllm.assistant.facts import TOOLS, Facts, Request, either_way

USUAL_COUNT = 5
"""Transactions in a reply to a call without conditions."""
IN_TEXT, IN_LINES = 10, 5
"""Transactions that the text lists, and the fact for a language model; the result has all."""
FIRST = {"newest": "latest", "oldest": "oldest", "largest": "largest", "smallest": "smallest"}
NOUN = {
    None: ("transaction", "transactions"),
    "in": ("payment in", "payments in"),
    "out": ("payment out", "payments out"),
    "refund": ("refund", "refunds"),
    "card": ("payment", "payments"),
    "own_transfer": ("transfer", "transfers"),
}
"""By kind or direction: singular and plural."""


@TOOLS.register("transactions")
@either_way
def look_up(request: Request, bank: Bank) -> Facts:
    query = query_of(request.call.arguments)
    if (
        query.order in ("largest", "smallest") and not query.direction and not query.kind
    ):  # a salary or savings are no payment out
        outward = replace(query, direction="out", own_transfers=False)
        query = outward if bank.transactions(request.customer_id, replace(outward, limit=1)) else query
    usual = {name: getattr(query, name) for name in ("order", "limit", "direction", "own_transfers")}
    conditions = query != TransactionQuery(**usual)
    limit = min(query.limit or (MAX_ROWS if conditions else USUAL_COUNT), MAX_ROWS)
    query = replace(query, limit=None if conditions else limit)
    statement = Statement(bank, request.customer_id, query, request.call.arguments.get("currency"))
    found, rows, (noun, nouns) = len(statement.rows), statement.rows[:limit], NOUN[query.kind or query.direction]
    at = "from" if query.direction == "in" else "at" if statement.is_shop else "to" if rows else "with"
    about, when = statement.about(at), statement.period if conditions else ""
    if not rows:
        text = f"I found no {nouns}{about}{when}. {statement.note}".strip()
        if query.merchant and (query.minimum_minor is not None or query.maximum_minor is not None):
            whole = replace(query, minimum_minor=None, maximum_minor=None, limit=None)
            if others := Statement(bank, request.customer_id, whole, request.call.arguments.get("currency")).rows:
                text += f" Of any amount there are {counted(len(others), 'payment')}{_in_all(others)}."
        return Facts(text, (text,), statement.sources, result=table(()))
    first = FIRST[query.order]
    if len(rows) == 1:
        text = f"Your {first if found > 1 or not conditions else 'only'} {noun}{about}{when}: {line(rows[0])}."
    else:
        of_all = f" of {found:,}" if found > len(rows) else ""
        summed = _in_all(rows) if "limit" in request.call.arguments and conditions else ""
        head = f"Your {len(rows)} {first}{of_all} {nouns}{about}{when}{summed}:"
        if conditions and found == len(rows):
            head = f"You have {found:,} {nouns}{about}{when}{_in_all(rows)}, the {first} first:"
        more = [f"… and {len(rows) - IN_TEXT:,} more."] if len(rows) > IN_TEXT else []
        more += [_added_up(rows)] if TOGETHER.search(request.message) and not _in_all(rows) else []
        text = "\n".join([head, *(f"- {line(row)}" for row in rows[:IN_TEXT]), *more])
    listed = "; ".join([*map(line, rows[:IN_LINES]), *(["…"] if len(rows) > IN_LINES else [])])
    order = f", {query.order} first"
    if found > len(rows):
        order = f"; the {query.order}" if len(rows) == 1 else f"; the {len(rows)} {query.order}"
    period = statement.listed_period if conditions else ""
    fact = f"{counted(found, 'transaction')}{about}{period}{order}: {listed}"
    return Facts(text, (fact,), statement.sources, statement.private, table(rows))


def _in_all(rows: Sequence[Transaction]) -> str:
    """The sum of rows of one currency that are all money in, or all money out."""
    kinds = {(row.currency, row.amount_minor > 0) for row in rows}
    total = format_money(abs(sum(row.amount_minor for row in rows)), rows[0].currency)
    return f", {total} in all" if len(kinds) == 1 else ""


def _added_up(rows: Sequence[Transaction]) -> str:
    sums = {
        way: money_in_all((row.currency, abs(row.amount_minor)) for row in rows if (row.amount_minor > 0) == inward)
        for way, inward in (("out", False), ("in", True))
    }
    return f"Together that is {' and '.join(f'{total} {way}' for way, total in sums.items() if total)}."
