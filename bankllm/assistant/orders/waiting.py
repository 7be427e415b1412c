"""What a message that is no yes and no no means for the action that waited for one, which the message has cancelled.

After a question the action is proposed again at the end of the reply, so that a yes means what was shown last. After a
correction it gives the details that were not corrected.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date

from bankllm.assistant.actions.proposals import PLANS
from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.actions.yes_no import THANKS, is_yes, nearly_yes
from bankllm.assistant.bank.ledger import Card, format_money
from bankllm.assistant.bank.tools import Call
from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.followups import asks, is_follow_up, stands_alone
from bankllm.assistant.orders.restated import ordered_again
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.completion import only_account
from bankllm.assistant.understanding.customer import CustomerView, accounts_named, by_label
from bankllm.assistant.understanding.names import fitting, plain
from bankllm.assistant.understanding.orders import CARD, IMPOSSIBLE, POSSIBLE, with_named_card
from bankllm.assistant.understanding.question_answers import answered
from bankllm.assistant.understanding.readers import Ask, day
from bankllm.assistant.understanding.readers import P as ANSWERS
from bankllm.assistant.understanding.resolve import resolve
from bankllm.assistant.understanding.slots import P as SLOTS
from bankllm.assistant.understanding.sum_wishes import SUMS
from bankllm.vectors.namespaces import Message

Item = ReadyCall | Question | Facts
P = patterns("waiting")
NUMBER = re.compile(r"\d")
LAUGHS = re.compile(r"\b(?:lol|haha\w*|sorry)\b[\s.,!]*", re.IGNORECASE)
"""Words beside a yes that is asked again."""
PROTECTS = frozenset(("freeze_card", "report_card"))
"""Tools whose action is proposed again after any message without another wish: a stolen card must not stay active."""
PLAIN_YES = Facts("I want to be sure that I understand you: please answer with yes or no alone.")
NOT_YET = Facts("Not yet: I do it only after your yes.")
SHORT = 4
"""Words of a message that may only name another card, and of the longest one that says nothing."""
UNANSWERED = Facts("This is exactly what I would do. I have no other answer to what you wrote.")


def only_asks(waited: Proposal, message: str, items: Sequence[Item]) -> bool:
    """Whether the message, read as `items`, corrects nothing and wishes nothing else."""
    laughs = LAUGHS.sub(" ", message)
    if nearly_yes(message) or (laughs != message and _agrees(laughs, waited.tool)):
        return True
    question = asks(message) and (P["affirms"].match(message) or P["is_there"].match(message))
    question = question or P["first"].search(message)
    corrects = P["corrects"].search(message) and not question
    if corrects or any(_is_another_wish(item, waited, message) for item in items):
        return False
    return (
        waited.tool in PROTECTS
        or asks(message)
        or P["asks"].search(message) is not None
        or _goes_on(waited, message, items)
        or _changes_nothing(message, items)
    )


def answer_and_ask(waited: Proposal, message: str, items: Sequence[Item]) -> list[Item]:
    """Return what answers the message, and the action.

    A look-up that names nothing and an article are no answers to a question about the action ("is it from savings?").
    """
    if nearly_yes(message):
        return [ReadyCall(waited.tool, waited.arguments)]
    if _agrees(message, waited.tool) and not asks(message):
        return [PLAIN_YES, ReadyCall(waited.tool, waited.arguments)]
    follows = is_follow_up(message)
    answers = [
        item
        for item in items
        if isinstance(item, Facts) or _is_answer(item, message) or (follows and item.tool in SUMS)
    ]
    if asks_if_done(message):
        answers = [NOT_YET]
    return [*(answers or [UNANSWERED]), ReadyCall(waited.tool, waited.arguments)]


def _goes_on(waited: Proposal, message: str, items: Sequence[Item]) -> bool:
    """Whether a message agrees beside other words, or asks for figures as the one before it: "oof. and October's"."""
    figures = [item for item in items if isinstance(item, ReadyCall) and item.tool in SUMS]
    return _agrees(message, waited.tool) or bool(figures and len(figures) == len(items) and is_follow_up(message))


def _changes_nothing(message: str, items: Sequence[Item]) -> bool:
    """Whether nothing of a sentence was understood, and no number may correct what waits: it is asked again."""
    understood = any(isinstance(item, Question) or _is_answer(item, message) for item in items)
    short = len(message.split()) <= SHORT
    return not (short or understood or NUMBER.search(message) or THANKS.search(message))


def _agrees(message: str, tool: str) -> bool:
    """Whether a part of a message is a yes, or an order for what waits: beside other words it is asked again."""
    parts = [part for part in re.split(r"[,.;!]+", message) if part.strip()]
    said = any(is_yes(part) or ordered_again(tool, part) for part in parts)
    return said or P["begins_yes"].match(message) is not None


def asks_if_done(message: str) -> bool:
    return P["done"].search(message) is not None


def cannot(waited: Proposal, message: str) -> str:
    """Return why the transfer that waits cannot be done as a short message wants it ("every month")."""
    wanted = (what for what, words in IMPOSSIBLE.items() if words.search(message))
    what = next(wanted, "") if waited.tool == "transfer" and len(message.split()) <= SHORT else ""
    return f"I cannot {what}. {POSSIBLE}" if what else ""


def other_option(
    waited: Proposal, message: str, turns: Sequence[Message], view: Callable[[], CustomerView], today: date
) -> Call | None:
    """Return the call with the other card, or with the other one of two options that were asked about."""
    if not P["other"].search(message) or asks(message) or P["rests"].search(message):
        return None
    if waited.tool in PROTECTS:
        cards = usable_cards(view())
        others = [card for card in cards if card.card_id != waited.arguments["card_id"]]
        kind = {name: value for name, value in waited.arguments.items() if name == "kind"}
        return {"tool": waited.tool, "card": others[0].last4, **kind} if len(others) == 1 else None
    question = Question.stored(turns[1].question) if len(turns) > 1 else None
    two = question if question and len(question.options) == 2 else None
    return answered(two, f"not {turns[0].user_message}", today) if two else None


def corrected(
    calls: Sequence[Call], waited: Proposal, message: str, view: Callable[[], CustomerView], today: date
) -> Sequence[Call]:
    """Return a call that names only what changes, with the other details of the action that waited."""
    if waited.tool == "freeze_card" and SLOTS["stolen"].search(message):
        last4 = next((card.last4 for card in view().cards if card.card_id == waited.arguments["card_id"]), "")
        return [{"tool": "report_card", "kind": "stolen", "card": last4}]
    if waited.tool != "transfer" or [call["tool"] for call in calls] != ["transfer"]:
        return calls
    said = {name: words for name, words in calls[0].items() if name == "tool" or words in message}
    if P["same_payee"].fullmatch(said.get("to", "")):
        del said["to"]
    if {"amount", "to"} <= said.keys():
        return calls  # another order
    call = {**_transfer(waited, view(), today), **said}
    if "amount" in said and P["more"].search(message):
        del call["amount"]  # how much it is in all is asked
    return [call]


def with_detail(waited: Proposal, message: str, view: Callable[[], CustomerView], today: date) -> Call | None:
    """Return the action with another payee, account, day, reference or card, if the message names nothing else."""
    if waited.tool in PROTECTS and len(message.split()) <= SHORT and not asks(message):
        same = {name: value for name, value in waited.arguments.items() if name == "kind"}
        said = [match[1] or match[2] for match in CARD.finditer(message) if match[1] or match[2]]
        return with_named_card({"tool": waited.tool, "card": said[0], **same}, message, view()) if said else None
    if waited.tool != "transfer" or asks(message):
        return None
    words, customer = ANSWERS["around_answer"].sub("", P["agreeing"].sub("", message).strip()), view()
    source = P["source"].search(P["not_that"].sub("", message.strip()))
    alone = source and not ANSWERS["around_answer"].sub("", message.strip()[: source.start()])
    if source and alone and accounts_named(source[1], customer.accounts):
        return {**_transfer(waited, customer, today), "from": source[1]}
    try:
        return {**_transfer(waited, customer, today), "date": words} if day(words, today, future=True) else None
    except Ask:
        pass  # it names no day
    if note := P["reference"].fullmatch(words):
        return {**_transfer(waited, customer, today), "reference": (note[1] or note[2]).strip("'\"“”‘’ ")}
    if waited.arguments.get("payee_id") and (account := only_account(words, customer)):
        return {**_transfer(waited, customer, today), "from": account}
    if P["once"].fullmatch(message):
        return _transfer(waited, customer, today)
    to = fitting(P["redirect"].sub("", words, count=1), by_label(customer.payees), typos=False)
    if not to and (purpose := P["purpose"].fullmatch(message)):
        return {**_transfer(waited, customer, today), "reference": purpose[1]}
    return {**_transfer(waited, customer, today), "to": to[0]} if len(to) == 1 else None


def repeated(last: Proposal | None, message: str, view: Callable[[], CustomerView], today: date) -> Item | None:
    """Return the conversation's last action, which the message wants once more, or undone: a frozen card was found."""
    if last is None:
        return None
    if (last.tool, last.state) == ("freeze_card", "booked") and P["found_it"].fullmatch(message) and not asks(message):
        return ReadyCall("unfreeze_card", {"card_id": last.arguments["card_id"]})
    if P["again"].fullmatch(message):
        return ReadyCall(last.tool, {name: value for name, value in last.arguments.items() if name != "date"})
    if last.tool != "transfer" or not (another := P["another"].fullmatch(message)):
        return None
    same = {name: words for name, words in _transfer(last, view(), today).items() if name != "date"}
    on = {"date": another["day"]} if another["day"] else {}
    return resolve([{**same, "amount": another["amount"], **on}], view(), today)[0]


def with_other_card(last: Proposal | None, message: str, view: Callable[[], CustomerView]) -> ReadyCall | None:
    """Return the conversation's last action for the customer's other card: "and the other one"."""
    if last is None or last.tool not in PROTECTS or not P["other_card"].fullmatch(message):
        return None
    cards = (card.card_id for card in usable_cards(view()))
    others = [card_id for card_id in cards if card_id != last.arguments["card_id"]]
    return ReadyCall(last.tool, {**last.arguments, "card_id": others[0]}) if len(others) == 1 else None


def usable_cards(customer: CustomerView) -> list[Card]:
    """Return the cards that are active or frozen."""
    return [card for card in customer.cards if card.status in ("active", "frozen")]


def _transfer(waited: Proposal, customer: CustomerView, today: date) -> Call:
    """Return the transfer that waited as the customer's words."""
    kept = waited.arguments
    labels = {payee.payee_id: label for label, payee in by_label(customer.payees).items()}
    labels |= {account.account_id: label for label, account in by_label(customer.accounts).items()}
    words = {
        "amount": format_money(kept["amount_minor"], kept["currency"]),
        "to": labels.get(kept.get("payee_id") or kept["to_account_id"], ""),
        "from": labels.get(kept["from_account_id"], ""),
        **({"date": kept["date"]} if kept["date"] != today.isoformat() else {}),
        **({"reference": kept["reference"]} if "reference" in kept else {}),
    }
    return {"tool": "transfer"} | {name: word for name, word in words.items() if word}


def _is_another_wish(item: Item, waited: Proposal, message: str) -> bool:
    """Whether the item is not about the action: a question to ask back about a look-up or the same tool is about it."""
    if isinstance(item, Question):
        return not (asks(message) or _agrees(message, waited.tool)) or (item.tool in PLANS and item.tool != waited.tool)
    return isinstance(item, ReadyCall) and item.tool in (*PLANS, "human_agent")


def _is_answer(item: Item, message: str) -> bool:
    if not isinstance(item, ReadyCall) or item.tool == "small_talk":
        return False
    named = stands_alone(message)
    if item.tool in SUMS and not named:  # what it is about may come from the messages before
        said = set(plain(message).split())
        named = any(said & set(plain(str(value)).split()) for value in item.arguments.values())
    elif item.tool != "knowledge":
        named = named or bool(item.arguments) or item.tool in ("payees", "card_status")
    return bool(named and item.arguments.get("sure", True))
