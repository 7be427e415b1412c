"""Of each card whether it is active, frozen, reported or on its way, when it expires, and its limit."""

from dataclasses import asdict

from bankllm.assistant.bank.ledger import Bank, Card, format_money
from bankllm.assistant.bank.statement import day, month
from bankllm.assistant.facts import TOOLS, Facts, Request


@TOOLS.register("card_status")
def look_up(request: Request, bank: Bank) -> Facts:
    wanted = request.call.arguments.get("card_id")
    cards = [card for card in bank.cards(request.customer_id) if wanted in (None, card.card_id)]
    sources = tuple(f"ledger:{account}" for account in sorted({card.account_id for card in cards}))
    result = {"rows": [asdict(card) for card in cards]}
    if not cards:
        return Facts("You have no cards.", ("The customer has no cards",), sources, result=result)
    states = [f"{card.label}: {_state(card)}" for card in cards]
    text = f"Your card {states[0]}." if len(states) == 1 else "\n- ".join(["Your cards:", *states])
    lines = tuple(f"{card.kind.capitalize()} card ending {card.last4}: {_state(card)}" for card in cards)
    return Facts(text, lines, sources, result=result)


def _state(card: Card) -> str:
    limit = f"limit {format_money(card.limit_minor, card.currency)} a day"
    return {
        "active": f"active, expires {month(card.expires)}, {limit}",
        "frozen": f"frozen since {day(card.since)}, {limit}",
        "lost": f"reported lost on {day(card.since)}",
        "stolen": f"reported stolen on {day(card.since)}",
        "ordered": f"on its way, ordered on {day(card.since)}",
        "expired": f"expired at the end of {month(card.expires)}",
    }[card.status]
