"""An order to end a direct debit, standing order or subscription: "get rid of that direct debit for me".

It becomes a call of `cancel_transfer` with `order_id`, an argument that no language model and no MCP client can give.
"""

from collections.abc import Sequence

from bankllm.assistant.bank.ledger import ONCE, StandingOrder
from bankllm.assistant.facts import Facts, ReadyCall
from bankllm.assistant.tools.standing_orders import kinds_named
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.names import plain
from bankllm.vectors.namespaces import Message

P = patterns("regular_orders")
WHICH = "Which regular payment do you want to cancel: {}?"


def orders_to_end(message: str, turns: Sequence[Message]) -> bool:
    """Whether a message orders to end something, or answers which regular payment is meant."""
    asked = bool(turns) and turns[0].assistant_response.startswith(WHICH[: WHICH.index("{")])
    return bool((asked or P["ends"].search(message)) and not P["asks"].search(message))


def ended(message: str, turns: Sequence[Message], orders: Sequence[StandingOrder]) -> ReadyCall | Facts | None:
    """Return the call that ends the regular payment that the message names, or that was spoken of; else None."""
    kinds = kinds_named(message)
    regular = [one for one in orders if one.kind != ONCE and one.kind in (kinds or (one.kind,))]
    named = [one for one in regular if _names(message, one) and (kinds or one.kind != "standing_order")]
    if not named and not (kinds or P["refers"].search(message)):
        return None
    before = next((found for turn in turns[:2] if (found := _spoken_of(turn, regular))), [])
    found = named or before or (regular if kinds else [])
    if len(found) == 1:
        return ReadyCall("cancel_transfer", {"order_id": found[0].order_id})
    return Facts(WHICH.format(", ".join(dict.fromkeys(one.name for one in found)))) if kinds and found else None


def _spoken_of(turn: Message, orders: Sequence[StandingOrder]) -> list[StandingOrder]:
    """Return the payments that a turn about regular payments names; those of the customer's own words come first."""
    if not P["regular"].search(f"{turn.user_message} {turn.assistant_response}"):
        return []
    asked = [one for one in orders if _names(turn.user_message, one)]
    return asked or [one for one in orders if one.name in turn.assistant_response]


def _names(message: str, order: StandingOrder) -> bool:
    """Whether a message has the name of the payment, or its first word."""
    text, name = f" {plain(P['kind_words'].sub(' ', message))} ", plain(order.name)
    first = name.split()[0] if name else ""
    return bool(name) and (f" {name} " in text or (len(first) > 2 and f" {first} " in text))
