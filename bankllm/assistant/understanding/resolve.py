"""Turn the copied words of tool calls into values of the customer's own data, or into one question.

A call of a reading tool always becomes a `ReadyCall`; what could not be read is in `unread`. A call of an acting tool
becomes a `Question` until nothing is missing or unclear: no action rests on a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from bankllm.assistant.bank.ledger import Account, Card, Payee
from bankllm.assistant.bank.tools import Call
from bankllm.assistant.facts import Question, ReadyCall


@dataclass(frozen=True)
class CustomerView:
    """What of the bank belongs to one customer."""

    accounts: Sequence[Account] = ()
    cards: Sequence[Card] = ()
    payees: Sequence[Payee] = ()
    merchants: Sequence[str] = ()
    """Names of shops and people as the customer's transactions have them."""
    categories: Sequence[str] = ()
    """The bank's categories."""
    paydays: Sequence[date] = ()
    """Days on which a salary came in, newest first; for "since payday"."""


def resolve(calls: Sequence[Call], customer: CustomerView, today: date) -> list[ReadyCall | Question]:
    """Return for each call what can be run, or the question to ask first. Never raises on what a customer wrote."""
    return [ReadyCall(call["tool"], {name: words for name, words in call.items() if name != "tool"}) for call in calls]


def answered(question: Question, message: str) -> Call | None:
    """Return the question's call with the slot filled from the customer's next message; None if it is no answer."""
    return {**question.call, question.slot: message}
