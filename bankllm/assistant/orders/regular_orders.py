"""An order to end direct debits, standing orders or subscriptions: "get rid of that direct debit for me".

It becomes calls of `cancel_transfer` with `order_id`, an argument that no language model and no MCP client can give.
"""

from collections.abc import Collection, Container, Sequence
from datetime import date

from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.actions.yes_no import is_no
from bankllm.assistant.bank.ledger import ONCE, StandingOrder
from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.followups import asks
from bankllm.assistant.tools.standing_orders import REGULAR, kinds_named
from bankllm.assistant.understanding import amounts, patterns
from bankllm.assistant.understanding.question_answers import answered, told_apart
from bankllm.assistant.understanding.readers import P as ANSWERS
from bankllm.errors import UsageError
from bankllm.vectors.namespaces import Message

P = patterns("regular_orders")
ORDER = "order_id"
"""Slot of the question which regular payment is meant."""
RECENT = 4
"""Latest turns of which one may tell what shall be stopped."""
Ended = list[ReadyCall | Question]


def orders_to_end(message: str) -> str:
    """Return the parts of a message that order to end something; empty if none does."""
    parts = P["parts"].split(without_other_order(message))
    return ", ".join(part for part in parts if P["ends"].search(part) and not P["asks"].search(part))


def without_other_order(message: str) -> str:
    """Return the message up to an order of another kind: "cancel puregym and freeze the visa"."""
    return P["other_order"].split(message)[0]


def means_another(waited: Proposal, message: str) -> bool:
    """Whether a message corrects which regular payment is ended: "no, I meant Sky"."""
    corrects = "?" not in message and P["corrects"].match(message) and not P["not_chosen"].search(message)
    return ORDER in waited.arguments and bool(corrects)


def without_kept(message: str) -> str:
    """Return the message without what it does not want to end: "not the big one to the joint"."""
    return P["kept"].sub(" ", message)


def corrected(message: str) -> str:
    """Return what a message says after it corrects itself: "the water one. Actually no, the phone"."""
    before, *more = P["corrected"].split(message)
    return more[-1] if more and before.strip() else ""


def named_kind(message: str, ordinary: Container[str]) -> str:
    """Return the name of "the spotify subscription"; empty if the word is an ordinary one ("the monthly one")."""
    named = P["of_kind"].search(message)
    return named["name"] if named and named["name"].lower() not in ordinary else ""


def ended(
    message: str,
    turns: Sequence[Message],
    orders: Sequence[StandingOrder],
    named: Sequence[Collection[str]],
    today: date,
) -> Ended:
    """Return the calls that end the regular payments that the message names, or that was spoken of, or the question
    which one is meant; empty if the message is about no regular payment.

    `named` are the names of the ledger for each name in the message.
    """
    kinds = kinds_named(message)
    regular = [one for one in orders if one.kind != ONCE and one.kind in (kinds or (one.kind,))]
    wanted = [one for one in regular if kinds or one.kind != "standing_order"]
    fitting = [found for names in named if (found := [one for one in wanted if one.name in names])]
    unclear = [found for found in fitting if len(found) > 1 and not _means_all(message)]
    if fitting:
        return [which(unclear[0])] if unclear else _calls([one for found in fitting for one in found])
    if named or not (kinds or P["refers"].search(message)):
        return []  # a name that fits no regular payment means none that was spoken of
    found = _told_apart(message, regular) if kinds else []
    found = found or next((said for turn in turns[:2] if (said := _spoken_of(turn, regular))), [])
    found = _told_apart(message, found) or found or (regular if kinds else [])
    if len(found) == 1 or _means_all(message):
        return _calls(found)
    asked = which(found)
    words = P["kind_words"].sub("", P["ends"].sub("", message))
    return chosen(asked, words, found, today) or ([asked] if found else [])


def none_to_end(message: str, words: Sequence[str]) -> list[ReadyCall | Facts]:
    """Return what to say of names to which nothing is paid regularly: a card that a firm charges can refuse it."""
    if not words or P["one_payment"].search(message):
        return []
    names = " or ".join(f"“{one}”" for one in words)
    found = Facts(f"I found no direct debit, standing order or subscription for {names}.")
    return [found, ReadyCall("knowledge", {"question": message, "article": "subscription_block"})]


def stops_it(message: str) -> bool:
    """Whether a message orders to stop what the turns before tell of, and says nothing else: "ok stop it then"."""
    return P["stops_it"].fullmatch(message) is not None


def shown_before(turns: Sequence[Message], orders: Sequence[StandingOrder]) -> Ended:
    """Return the call that ends what was paid to the only regular payee of the latest turns."""
    told = " ".join(f"{turn.user_message} {turn.assistant_response}" for turn in turns[:RECENT])
    found = [one for one in orders if one.kind not in (ONCE, "standing_order") and one.name in told]
    return _calls(found) if len({one.name for one in found}) == 1 else []


def changed(message: str, turns: Sequence[Message]) -> list[ReadyCall]:
    """Return how to change a regular payment that the reply before showed: "can you put it up to a hundred"."""
    shown = turns[0].assistant_response if turns else ""
    if REGULAR not in shown or not P["changes"].search(message):
        return []
    article = "standing_order_change_cancel" if "Standing order" in shown else "direct_debit_change"
    return [ReadyCall("knowledge", {"question": message, "article": article})]


def chosen(question: Question, message: str, orders: Sequence[StandingOrder], today: date) -> Ended:
    """Return the calls that an answer to the question which payment is meant asks for; empty if it is no answer."""
    asked = [one for one in orders if one.name in question.options]
    if asks(message) or is_no(message) or P["not_chosen"].search(message):
        return []
    if ANSWERS["both"].fullmatch(message.strip(" .!,")) or P["only_all"].fullmatch(message) or _means_all(message):
        return _calls(asked)
    call = answered(question, message, today) or {}
    return _calls(_told_apart(message, asked) or [one for one in asked if one.name == call.get(ORDER)])


def _means_all(message: str) -> bool:
    """Whether an order to end something is about all of them, and not "tell them that I am leaving"."""
    return P["all"].search(P["to_others"].sub(" ", orders_to_end(message))) is not None


def _calls(orders: Sequence[StandingOrder]) -> Ended:
    return [
        ReadyCall("cancel_transfer", {ORDER: order_id}) for order_id in dict.fromkeys(one.order_id for one in orders)
    ]


def which(orders: Sequence[StandingOrder]) -> Question:
    options = tuple(dict.fromkeys(one.name for one in orders))
    text = f"Which regular payment do you want to cancel: {', '.join(options)}?"
    return Question("cancel_transfer", ORDER, text, options, {"tool": "cancel_transfer"})


def _spoken_of(turn: Message, orders: Sequence[StandingOrder]) -> list[StandingOrder]:
    """Return the payments that a turn about regular payments names; one of the customer's own words comes first."""
    if not P["regular"].search(f"{turn.user_message} {turn.assistant_response}"):
        return []
    found = [one for one in orders if one.name in turn.assistant_response]
    return _told_apart(turn.user_message, found) or found


def _told_apart(message: str, orders: Sequence[StandingOrder]) -> list[StandingOrder]:
    """Return the only payment with the amount that the message names ("the fifty one"), or with a word of its name."""
    text = P["kind_words"].sub(" ", without_kept(message))
    minor = {_minor(word) for word in P["amount"].findall(text)}
    if len(found := [one for one in orders if one.amount_minor in minor]) == 1:
        return found
    names = told_apart(text, [_name(one) for one in orders])
    return [one for one in orders if _name(one) in names]


def _name(order: StandingOrder) -> str:
    """Return the name without the "To" of a transfer to an own account, which is a word of many answers."""
    return order.name.removeprefix("To ")


def _minor(word: str) -> int | None:
    try:
        money = amounts.amount(word)
    except UsageError:
        return None
    return money.amount_minor if money else None
