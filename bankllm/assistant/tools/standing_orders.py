"""Standing orders, direct debits and subscriptions, by the day on which they are due next, or all of a period."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import date
from itertools import count

from dateutil.relativedelta import relativedelta

from bankllm.assistant.bank.ledger import Bank, StandingOrder, format_money
from bankllm.assistant.bank.statement import TO_PEOPLE, counted, day, period
from bankllm.assistant.facts import TOOLS, Facts, Request


@TOOLS.register("standing_orders")
def look_up(request: Request, bank: Bank) -> Facts:
    orders, days, when = list(bank.standing_orders(request.customer_id)), request.call.arguments, ""
    sources = tuple(f"ledger:{account}" for account in sorted({order.account_id for order in orders}))
    if "date_to" in days:
        when = f" due{period(days['date_from'], days['date_to'])}"
        due = [one for order in orders for one in _until(order, days["date_to"]) if one.next_due >= days["date_from"]]
        orders = sorted(due, key=lambda order: order.next_due)
    result = {"rows": [asdict(order) for order in orders]}
    if not orders:
        text = f"You have no standing orders, direct debits or subscriptions{when}."
        return Facts(text, (text,), sources, result=result)
    sums = Counter[str]()
    for order in orders:
        sums[order.currency] += order.amount_minor
    total = " and ".join(format_money(minor, currency) for currency, minor in sums.items())
    payments = counted(len(orders), "regular payment") + (f"{when}, {total} in all" if when else "")
    dated = [f"{_order(order)} {'on' if when else 'monthly, next'} {day(order.next_due)}" for order in orders]
    kinds = [order.kind.replace("_", " ").capitalize() for order in orders]
    listed = "\n".join(f"- {kind}: {line}" for kind, line in zip(kinds, dated, strict=True))
    text = f"You have {payments}{', the next one first' if orders[1:] else ''}:\n{listed}"
    private = tuple(dict.fromkeys(order.name for order in orders if order.kind in TO_PEOPLE))
    return Facts(text, (f"{payments}: {'; '.join(dated)}",), sources, private, result)


def _until(order: StandingOrder, last: str) -> Iterator[StandingOrder]:
    """The order with each of its days up to the last one."""
    for months in count():
        due = date.fromisoformat(order.next_due) + relativedelta(months=months, day=order.day)
        if due.isoformat() > last:
            return
        yield replace(order, next_due=due.isoformat())


def _order(order: StandingOrder) -> str:
    return f"{order.name} {format_money(order.amount_minor, order.currency)}"
