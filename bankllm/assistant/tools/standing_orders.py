"""Standing orders, direct debits and subscriptions, by the day on which they are due next."""

from dataclasses import asdict

from bankllm.assistant.bank.ledger import Bank, StandingOrder, format_money
from bankllm.assistant.bank.statement import counted, day
from bankllm.assistant.facts import TOOLS, Facts, Request


@TOOLS.register("standing_orders")
def look_up(request: Request, bank: Bank) -> Facts:
    orders = bank.standing_orders(request.customer_id)
    sources = tuple(f"ledger:{account}" for account in sorted({order.account_id for order in orders}))
    result = {"rows": [asdict(order) for order in orders]}
    if not orders:
        text = "You have no standing orders, direct debits or subscriptions."
        return Facts(text, (text,), sources, result=result)
    payments = counted(len(orders), "regular payment")
    listed = "\n".join(f"- {order.kind.replace('_', ' ').capitalize()}: {_order(order)}" for order in orders)
    text = f"You have {payments}, the next one first:\n{listed}"
    return Facts(text, (f"{payments}: {'; '.join(map(_order, orders))}",), sources, result=result)


def _order(order: StandingOrder) -> str:
    return f"{order.name} {format_money(order.amount_minor, order.currency)} monthly, next {day(order.next_due)}"
