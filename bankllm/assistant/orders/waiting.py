"""What a message that is no yes and no no means for the action that waited for one, which the message has cancelled.

After a question the action is proposed again at the end of the reply, so that a yes means what was shown last. After a
correction it gives the details that were not corrected.
"""

import json
import re
from collections.abc import Callable, Sequence
from datetime import date

from bankllm.assistant.actions.proposals import PLANS
from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.actions.yes_no import is_yes, nearly_yes
from bankllm.assistant.bank.ledger import Card, format_money
from bankllm.assistant.bank.tools import Call, call_schemas
from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.followups import asks, stands_alone
from bankllm.assistant.tools.standing_orders import REGULAR
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.completion import ACCOUNT, account_named, only_account
from bankllm.assistant.understanding.names import fitting, plain
from bankllm.assistant.understanding.orders import CARD, IMPOSSIBLE, POSSIBLE, with_named_card
from bankllm.assistant.understanding.readers import Ask, CustomerView, accounts_named, by_label, day
from bankllm.assistant.understanding.readers import P as ANSWERS
from bankllm.assistant.understanding.resolve import REQUIRED, answered, resolve
from bankllm.assistant.understanding.slots import P as SLOTS
from bankllm.assistant.understanding.sum_wishes import SUMS
from bankllm.vectors.namespaces import Message

Item = ReadyCall | Question | Facts
P, ROUTES = patterns("waiting"), patterns("routes")
OF_PAYMENTS = patterns("while_waiting")["of_payments"]
PROTECTS = frozenset(("freeze_card", "report_card"))
"""Tools whose action is proposed again after any message without another wish: a stolen card must not stay active."""
NOT_YET = Facts("Not yet: I do it only after your yes.")
SHORT = 4
"""Words of a message that may only name another card."""
STOP_REGULAR = "How do I change or stop a standing order?"
UNANSWERED = Facts("This is exactly what I would do. I have no other answer to what you wrote.")


def only_asks(waited: Proposal, message: str, items: Sequence[Item]) -> bool:
    """Whether the message, read as `items`, corrects nothing and wishes nothing else."""
    if nearly_yes(message):
        return True
    question = asks(message) and (P["affirms"].match(message) or P["is_there"].match(message))
    corrects = P["corrects"].search(message) and not question
    if corrects or any(_is_another_wish(item, waited, message) for item in items):
        return False
    return waited.tool in PROTECTS or asks(message) or P["asks"].search(message) is not None or _agrees(message)


def answer_and_ask(waited: Proposal, message: str, items: Sequence[Item]) -> list[Item]:
    """Return what answers the message, and the action.

    A look-up that names nothing and an article are no answers to a question about the action ("is it from savings?").
    """
    if nearly_yes(message) or (_agrees(message) and not asks(message)):
        return [ReadyCall(waited.tool, waited.arguments)]
    answers = [item for item in items if isinstance(item, Facts) or _is_answer(item, message)]
    if asks_if_done(message):
        answers = [NOT_YET]
    return [*(answers or [UNANSWERED]), ReadyCall(waited.tool, waited.arguments)]


def _agrees(message: str) -> bool:
    """Whether a message begins or ends with a yes: beside other words it is asked again."""
    parts = [part for part in re.split(r"[,.;!]+", message) if part.strip()]
    return any(map(is_yes, (*parts[:1], *parts[-1:]))) or P["begins_yes"].match(message) is not None


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
    if not P["other"].search(message) or asks(message):
        return None
    if waited.tool in PROTECTS:
        cards = _usable_cards(view())
        others = [card for card in cards if card.card_id != waited.arguments["card_id"]]
        kind = {name: value for name, value in waited.arguments.items() if name == "kind"}
        return {"tool": waited.tool, "card": others[0].last4, **kind} if len(others) == 1 else None
    if len(turns) < 2 or not turns[1].question:
        return None
    question = Question(**json.loads(turns[1].question))
    return answered(question, f"not {turns[0].user_message}", today) if len(question.options) == 2 else None


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


def from_there(calls: Sequence[Call], messages: Sequence[str], customer: CustomerView) -> Sequence[Call]:
    """Return the transfers with the account that "from there" means: the one that was named last before.

    "Pay it off" after a credit card is a transfer to it.
    """
    part = P["pay_part"].fullmatch(messages[-1])
    pays_off = (part or P["pay_off"].fullmatch(messages[-1])) and messages[1:]
    owed = account_named(messages[-2], customer) if pays_off else None
    owed = owed or (account_named(messages[-3], customer) if pays_off and messages[2:] else None)
    if owed and {one.kind for one in accounts_named(owed, customer.accounts)} == {"credit"}:
        return [{"tool": "transfer", "to": owed} | ({"amount": part["amount"]} if part else {})]
    if not P["from_there"].search(messages[-1]) or not any(call["tool"] == "transfer" for call in calls):
        return calls
    named = (account_named(one, customer) for one in reversed(messages[:-1]))
    source = next(filter(None, named), "there")
    return [{"from": source, **call} if call["tool"] == "transfer" else call for call in calls]


def on_that_day(message: str, turns: Sequence[Message]) -> str:
    """Return the message; "since then" becomes the day of the only payment that the reply before it shows."""
    shown = turns[0].assistant_response if turns and turns[0].calls else ""
    days = {*re.findall(r"(?:^|[:-] )(\d{1,2} [A-Z][a-z]+ 20\d\d)\b", shown)}
    return P["that_day"].sub(f"since {days.pop()}", message, count=1) if len(days) == 1 else message


def in_there(messages: Sequence[str], customer: CustomerView) -> list[str]:
    """Return the messages; in the last one "in there" becomes the account that was named last before it."""
    *earlier, last = messages
    if not (there := P["in_there"].search(last)):
        return [*messages]
    before, after = last[: there.start()], last[there.end() :]
    if not (named := next(filter(None, (account_named(one, customer) for one in [before, *reversed(earlier)])), None)):
        return [*messages]
    return [*earlier, f"{before}{'into' if P['moves_in'].search(before) else 'in'} my {named}{after}"]


def with_same_card(
    calls: Sequence[Call], last: Proposal | None, messages: Sequence[str], customer: CustomerView
) -> Sequence[Call]:
    """Return the calls for a card that none of them names with the card of the last action, or the one named last."""
    *earlier, message = messages
    if not P["same_card"].search(message):
        return calls
    ids = {card.card_id: card.last4 for card in customer.cards}
    same = ids.get(last.arguments.get("card_id", "")) if last else None
    if not (same := same or _named_last(earlier, customer)):
        return calls
    return [
        {**call, "card": same} if "card" in {*REQUIRED.get(call["tool"], ())} - call.keys() else call for call in calls
    ]


def to_same_payee(
    calls: Sequence[Call], last: Proposal | None, messages: Sequence[str], customer: CustomerView
) -> Sequence[Call]:
    """Return the transfers to "her" with the payee of the conversation's last action.

    The day of an earlier message that asked about payments is none of a transfer.
    """
    last_id = last.arguments.get("payee_id") if last else None
    label = next((label for label, payee in by_label(customer.payees).items() if payee.payee_id == last_id), "")
    asked = [one for one in messages[:-1] if OF_PAYMENTS.search(one)]
    found = []
    for call in calls:
        day = call.get("date", "") if call["tool"] == "transfer" else ""
        if day and day not in messages[-1] and any(day in one for one in asked):
            call = {name: words for name, words in call.items() if name != "date"}
        found.append({**call, "to": label} if label and P["same_payee"].fullmatch(call.get("to", "")) else call)
    return found


def in_same_account(calls: Sequence[Call], messages: Sequence[str], customer: CustomerView) -> Sequence[Call]:
    """Return one look-up with the account of the question that the last message continues, if it names none itself."""
    if len(calls) != 1 or calls[0]["tool"] not in SUMS or calls[0].keys() & {"account", "without"}:
        return calls
    for message in reversed(messages):
        if message == messages[-1] and ACCOUNT.search(message):
            break
        if named := account_named(message, customer):
            return calls if ROUTES["order"].search(message) else [{**calls[0], "account": named}]
        if stands_alone(P["this_period"].sub("", message)):
            break
    return calls


def of_regular(calls: Sequence[Call], message: str, turns: Sequence[Message]) -> Sequence[Call]:
    """Return the calls; after regular payments, "stop it" asks how to end one, and "next week" which are due."""
    stops = [call["tool"] for call in calls] == ["cancel_transfer"] and not P["transfers"].search(message)
    listed = turns and REGULAR in turns[0].assistant_response
    if listed and stops:
        return [{"tool": "knowledge", "question": STOP_REGULAR}]
    ahead = P["ahead"].search(calls[0].get("period", "")) if len(calls) == 1 and calls[0]["tool"] in SUMS else None
    return [{"tool": "standing_orders", "period": calls[0]["period"]}] if listed and ahead else calls


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


def of_other_card(calls: Sequence[Call], said: Sequence[str], customer: CustomerView) -> Sequence[Call]:
    """Return the calls about "the other card": the only other one than that of the messages before."""
    *earlier, message = said
    if not P["other"].search(message):
        return calls
    first = _named_last(earlier, customer)
    others = [card.last4 for card in _usable_cards(customer) if card.last4 != first]
    other = {"card": others[0]} if first and len(others) == 1 else {}
    return [
        {name: words for name, words in call.items() if name != "card"} | other
        if call["tool"] in PROTECTS and call.get("card", "") not in message.split()
        else call
        for call in calls
    ]


def with_other_card(last: Proposal | None, message: str, view: Callable[[], CustomerView]) -> ReadyCall | None:
    """Return the conversation's last action for the customer's other card: "and the other one"."""
    if last is None or last.tool not in PROTECTS or not P["other_card"].fullmatch(message):
        return None
    cards = (card.card_id for card in _usable_cards(view()))
    others = [card_id for card_id in cards if card_id != last.arguments["card_id"]]
    return ReadyCall(last.tool, {**last.arguments, "card_id": others[0]}) if len(others) == 1 else None


def _named_last(messages: Sequence[str], customer: CustomerView) -> str | None:
    """Return the last four digits of the card that the messages name last."""
    named = (with_named_card({"tool": ""}, one, customer).get("card") for one in reversed(messages))
    return next(filter(None, named), None)


def _usable_cards(customer: CustomerView) -> list[Card]:
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


def answering(calls: Sequence[Call], question: Question) -> Sequence[Call]:
    """Return the calls; an order that answers the question about an unfinished one keeps what that had named."""
    required = call_schemas()[question.tool]["required"]
    same = [call["tool"] for call in calls] == [question.tool] and question.tool in PLANS
    return [{**question.call, **calls[0]}] if same and not calls[0].keys() >= set(required) else calls


def _is_another_wish(item: Item, waited: Proposal, message: str) -> bool:
    """Whether the item is not about the action: a question to ask back about a look-up or the same tool is about it."""
    if isinstance(item, Question):
        return not (asks(message) or _agrees(message)) or (item.tool in PLANS and item.tool != waited.tool)
    return isinstance(item, ReadyCall) and item.tool in (*PLANS, "human_agent")


def _is_answer(item: Item, message: str) -> bool:
    if not isinstance(item, ReadyCall) or item.tool == "small_talk":
        return False
    named = stands_alone(message)
    if item.tool in SUMS and not named:  # what it is about may come from the messages before
        said = set(plain(message).split())
        named = any(said & set(plain(str(value)).split()) for value in item.arguments.values())
    elif item.tool != "knowledge":
        named = named or bool(item.arguments) or item.tool == "payees"
    return bool(named and item.arguments.get("sure", True))
