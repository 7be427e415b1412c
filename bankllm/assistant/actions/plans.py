"""What an action would change: a plan is made for the proposal, and again, in the transaction, for the booking.

A plan has every detail that the customer sees, and checks ownership, balance and limits. If the second plan differs
from the first one, nothing is booked.
"""

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple, TypeVar

from bankllm.assistant.bank.ledger import Bank
from bankllm.errors import UsageError

T = TypeVar("T")
Wanted = Mapping[str, Any]
"""Arguments of a call, as `bankllm.assistant.understanding.resolve` normalises them."""
Applied = tuple[str, int | None]
"""A sentence to add once an action is done, and the number of its journal entry if there is one."""
Apply = Callable[[str], Applied]
"""Changes the ledger in the caller's transaction; called with the action's id."""


HELD = (
    "I send no money to others for now: you told us about something that looks like a scam, and a payment cannot be "
    "called back. Please send nothing, however urgent they say it is, and hang up if somebody tells you what to do. We "
    "never ask you to move money to a “safe account”. If this is about something else, say “person”: somebody in our "
    "fraud team looks at it with you."
)


class ActionRefused(UsageError):
    """The action is not possible. The message is written for the customer."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason} Nothing was done.")


@dataclass(frozen=True)
class Situation:
    """What a plan may read. `db` is in a transaction, which `bank` reads, too."""

    bank: Bank
    db: sqlite3.Connection
    customer_id: str
    conversation_id: str
    today: date
    """The day from which the customer's dates count, and on which is booked."""
    midnight: float
    """When the system's day began, in seconds since 1970; limits per day count from then."""
    held: bool = False
    """Whether the customer's payments are held, see `ActionDesk.hold_payments`."""


class Plan(NamedTuple):
    arguments: dict[str, Any]
    """All details, with the defaults that the call left out."""
    text: str
    """What would be done, as an order: `Freeze your Visa Debit ending 1234`."""
    apply: Apply


def choose(items: Sequence[T], wanted: object, what: str, id_: str, name: str = "name") -> T:
    """Return the item with the id `wanted`; if that is None, the only item. Raises `ActionRefused`.

    `id_` and `name` are the attributes of an item that hold its id and what a question calls it.
    """

    def names(of: Sequence[T]) -> str:
        return "; ".join(getattr(item, name) for item in of)

    found = [item for item in items if wanted in (None, getattr(item, id_))]
    if not found:
        had = f" You have: {names(items)}." if items else ""
        raise ActionRefused(f"I found no {what} for this.{had}")
    if len(found) > 1:
        raise ActionRefused(f"Which {what} do you mean: {names(found)}?")
    return found[0]


def read_amount(wanted: Wanted) -> int:
    """Return `amount_minor`. Raises `ActionRefused` unless it is a positive integer."""
    amount = wanted.get("amount_minor")
    if type(amount) is not int:
        raise ActionRefused("I could not read the amount. Write it like £50 or £12.30.")
    if amount <= 0:
        raise ActionRefused("The amount must be more than nothing.")
    return amount


def check_currency(wanted: Wanted, currency: str, what: str) -> None:
    if (given := wanted.get("currency") or currency) != currency:
        raise ActionRefused(f"{what} is in {currency}, so I cannot use {given} for it.")
