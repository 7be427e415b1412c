"""What calls lack, and the turns before tell: "from there", "her", "the other card", "stop it", "move it back"."""

import re
from collections.abc import Sequence

from bankllm.assistant.actions.proposals import PLANS
from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.bank.tools import Call, call_schemas
from bankllm.assistant.facts import Question
from bankllm.assistant.followups import points_back, stands_alone
from bankllm.assistant.orders.waiting import PROTECTS, usable_cards
from bankllm.assistant.tools.standing_orders import REGULAR
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.completion import ACCOUNT, account_named
from bankllm.assistant.understanding.customer import CustomerView, accounts_named, by_label
from bankllm.assistant.understanding.names import plain
from bankllm.assistant.understanding.orders import with_named_card
from bankllm.assistant.understanding.resolve import REQUIRED
from bankllm.assistant.understanding.sum_wishes import SUMS
from bankllm.vectors.namespaces import Message

P, ROUTES = patterns("waiting"), patterns("routes")
OF_PAYMENTS = patterns("while_waiting")["of_payments"]
STOP_REGULAR, STOP_SUBSCRIPTION = "How do I change or stop a standing order?", "How do I stop a subscription?"


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


def back_again(calls: Sequence[Call], last: Proposal | None, message: str, customer: CustomerView) -> Sequence[Call]:
    """Return the transfer "back" after one between own accounts in the opposite direction."""
    own = last is not None and last.state == "booked" and "to_account_id" in last.arguments
    if not own or [call["tool"] for call in calls] != ["transfer"] or not P["back"].search(message):
        return calls
    labels = {account.account_id: label for label, account in by_label(customer.accounts).items()}
    assert last is not None
    sides = {"from": labels[last.arguments["to_account_id"]], "to": labels[last.arguments["from_account_id"]]}
    return [{**calls[0], **sides}]


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


def of_regular(calls: Sequence[Call], message: str, turns: Sequence[Message], customer: CustomerView) -> Sequence[Call]:
    """Return the calls; after regular payments, "stop it" asks how to end one, and "next week" which are due.

    “Stop it” is no transfer either if the turn before tells of none, and names nobody who is paid.
    """
    stops = [call["tool"] for call in calls] == ["cancel_transfer"] and not P["transfers"].search(message)
    listed = turns and REGULAR in turns[0].assistant_response
    told = plain(f"{turns[0].user_message} {turns[0].assistant_response} {message}") if turns else ""
    known = "transfer" in told or any(plain(one.name).split()[0] in told.split() for one in customer.payees)
    if stops and turns and (listed or (points_back(message) and not known)):
        return [{"tool": "knowledge", "question": STOP_REGULAR if listed else STOP_SUBSCRIPTION}]
    ahead = P["ahead"].search(calls[0].get("period", "")) if len(calls) == 1 and calls[0]["tool"] in SUMS else None
    return [{"tool": "standing_orders", "period": calls[0]["period"]}] if listed and ahead else calls


def of_other_card(calls: Sequence[Call], said: Sequence[str], customer: CustomerView) -> Sequence[Call]:
    """Return the calls about "the other card": the only other one than that of the messages before."""
    *earlier, message = said
    if not P["other"].search(message):
        return calls
    first = _named_last(earlier, customer)
    others = [card.last4 for card in usable_cards(customer) if card.last4 != first]
    other = {"card": others[0]} if first and len(others) == 1 else {}
    return [
        {name: words for name, words in call.items() if name != "card"} | other
        if call["tool"] in PROTECTS and call.get("card", "") not in message.split()
        else call
        for call in calls
    ]


def answering(calls: Sequence[Call], question: Question) -> Sequence[Call]:
    """Return the calls; an order that answers the question about an unfinished one keeps what that had named."""
    required = call_schemas()[question.tool]["required"]
    same = [call["tool"] for call in calls] == [question.tool] and question.tool in PLANS
    return [{**question.call, **calls[0]}] if same and not calls[0].keys() >= set(required) else calls


def _named_last(messages: Sequence[str], customer: CustomerView) -> str | None:
    """Return the last four digits of the card that the messages name last."""
    named = (with_named_card({"tool": ""}, one, customer).get("card") for one in reversed(messages))
    return next(filter(None, named), None)
