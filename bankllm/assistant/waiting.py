"""What a message that is no yes and no no means for the action that waited for one, which the message has cancelled.

After a question the action is proposed again at the end of the reply, so that a yes means what was shown last. After a
correction it gives the details that were not corrected.
"""

import json
from collections.abc import Callable, Sequence
from datetime import date

from bankllm.assistant.actions.proposals import PLANS, Proposal
from bankllm.assistant.bank.ledger import format_money
from bankllm.assistant.bank.tools import Call, call_schemas
from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.followups import asks, stands_alone
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.readers import CustomerView, by_label
from bankllm.assistant.understanding.resolve import answered
from bankllm.assistant.understanding.slots import P as SLOTS
from bankllm.vectors.namespaces import Message

Item = ReadyCall | Question | Facts
P = patterns("waiting")
PROTECTS = frozenset(("freeze_card", "report_card"))
"""Tools whose action is proposed again after any message without another wish: a stolen card must not stay active."""
UNANSWERED = Facts("This is exactly what I would do. I have no other answer to what you wrote.")


def only_asks(waited: Proposal, message: str, items: Sequence[Item]) -> bool:
    """Whether the message, read as `items`, corrects nothing and wishes nothing else."""
    corrects = P["corrects"].search(message) and not (P["affirms"].match(message) and asks(message))
    if corrects or any(_is_another_wish(item) for item in items):
        return False
    return waited.tool in PROTECTS or asks(message) or P["asks"].search(message) is not None


def answer_and_ask(waited: Proposal, message: str, items: Sequence[Item]) -> list[Item]:
    """Return what answers the message, and the action.

    A look-up that names nothing and an article are no answers to a question about the action ("is it from savings?").
    """
    whole = stands_alone(message)
    answers = [item for item in items if isinstance(item, Facts) or _is_answer(item, whole)]
    return [*(answers or [UNANSWERED]), ReadyCall(waited.tool, waited.arguments)]


def asks_if_done(message: str) -> bool:
    return P["done"].search(message) is not None


def other_option(
    waited: Proposal, message: str, turns: Sequence[Message], view: Callable[[], CustomerView], today: date
) -> Call | None:
    """Return the call with the other card, or with the other one of two options that were asked about."""
    if not P["other"].search(message) or asks(message):
        return None
    if waited.tool in PROTECTS:
        cards = [card for card in view().cards if card.status in ("active", "frozen")]
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
    if {"amount", "to"} <= said.keys():
        return calls  # another order
    kept, customer = waited.arguments, view()
    labels = {payee.payee_id: label for label, payee in by_label(customer.payees).items()}
    labels |= {account.account_id: label for label, account in by_label(customer.accounts).items()}
    words = {
        "amount": format_money(kept["amount_minor"], kept["currency"]),
        "to": labels.get(kept.get("payee_id") or kept["to_account_id"], ""),
        "from": labels.get(kept["from_account_id"], ""),
        **({"date": kept["date"]} if kept["date"] != today.isoformat() else {}),
        **({"reference": kept["reference"]} if "reference" in kept else {}),
    }
    return [{name: word for name, word in (words | said).items() if word}]


def answering(calls: Sequence[Call], question: Question) -> Sequence[Call]:
    """Return the calls; an order that answers the question about an unfinished one keeps what that had named."""
    required = call_schemas()[question.tool]["required"]
    same = [call["tool"] for call in calls] == [question.tool] and question.tool in PLANS
    return [{**question.call, **calls[0]}] if same and not calls[0].keys() >= set(required) else calls


def _is_another_wish(item: Item) -> bool:
    return isinstance(item, Question) or (isinstance(item, ReadyCall) and item.tool in (*PLANS, "human_agent"))


def _is_answer(item: Item, whole: bool) -> bool:
    if not isinstance(item, ReadyCall) or item.tool == "small_talk":
        return False
    named = whole if item.tool == "knowledge" else whole or item.arguments
    return bool(named and item.arguments.get("sure", True))
