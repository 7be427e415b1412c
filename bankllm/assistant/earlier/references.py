"""Words of a message that stand for something said or shown before, replaced by it: "her", "the same two months"."""

import calendar
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.earlier.shown import NUMBERS, shown_calls
from bankllm.assistant.facts import ReadyCall
from bankllm.assistant.orders.waiting import Item
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.names import fitting, plain
from bankllm.assistant.understanding.slots import Slots
from bankllm.assistant.understanding.sum_wishes import SUMS
from bankllm.vectors.namespaces import Message

P = patterns("references")
AMOUNT = re.compile(r"-([£€$¥][\d,.]*\d)")
LONG = 31
"""Days beyond which one period that was shown is "the same months"."""
RECENT = 2
"""Latest turns of which one may tell that "it" is the overdraft."""


def spelled_out(message: str, turns: Sequence[Message], customer: CustomerView, today: date) -> str:
    """Return the message with what its words refer to."""
    message = P["my"].sub("my", P["this_one"].sub(" ", message))
    message = _of_overdraft(message, turns, today)
    message = _of_kind(_in_same_days(_same_amount(message, turns), turns), turns, customer)
    return _of_person(message, turns, customer)


def without_this(items: Sequence[Item], message: str, last: Proposal | None, today: date) -> list[Item]:
    """Return the sums until yesterday if the message leaves out the transfer that this conversation made today."""
    made = last and last.state == "booked" and last.tool == "transfer" and P["not_this_one"].search(message)
    until = {"date_to": (today - timedelta(days=1)).isoformat()}
    return [
        replace(one, arguments={**one.arguments, **until})
        if made and isinstance(one, ReadyCall) and one.tool in SUMS and "date_to" in one.arguments
        else one
        for one in items
    ]


def overdraft_interest(message: str, today: date) -> str:
    """Return a message about what the customer's own overdraft costs as one about the interest that was paid."""
    sums = P["paid_interest"].match(message)
    if not sums and not P["own_overdraft_cost"].search(message):
        return message
    days = Slots(message, {}, today).periods()
    if sums or days:
        return f"how much overdraft interest did I pay {' and '.join(days)}".strip()
    return "show my last 3 payments of overdraft interest"


def _same_amount(message: str, turns: Sequence[Message]) -> str:
    """Return an order for "the same amount" with that of the only payment that the reply before shows."""
    if not P["same_amount"].search(message) or not P["orders"].search(message) or not turns or not turns[0].calls:
        return message
    shown = {*AMOUNT.findall(turns[0].assistant_response)}
    return P["same_amount"].sub(shown.pop(), message, count=1) if len(shown) == 1 else message


def _of_overdraft(message: str, turns: Sequence[Message], today: date) -> str:
    told = " ".join(f"{turn.user_message} {turn.assistant_response}" for turn in turns[:RECENT])
    if "overdraft" not in message.lower() and "overdraft" in told.lower():
        message = P["cost_of_it"].sub(r"\g<cost> my overdraft", P["it_costs"].sub(r"my overdraft\g<cost>", message))
    return overdraft_interest(message, today)


def _of_kind(message: str, turns: Sequence[Message], customer: CustomerView) -> str:
    """Return "the state one" as "State Pension" after a pension was shown, if no other name fits the words."""
    if not (one := P["named_one"].search(message)):
        return message
    shown = [
        str(call.arguments.get("merchant", "")) for calls in shown_calls(turns[:RECENT], customer) for call in calls
    ]
    kinds = {word for name in shown for word in plain(name).split()}
    fit = fitting(one["words"], customer.merchants, typos=False)
    found = [name for name in fit if name in shown or kinds & {*plain(name).split()}]
    return message.replace(one[0], found[0], 1) if len(found) == 1 else message


def _of_person(message: str, turns: Sequence[Message], customer: CustomerView) -> str:
    """Return a question about what was paid to "her" with the payee who was named last, if only one was."""
    if not P["asks_of_person"].search(message) or not P["person"].search(message):
        return message
    for turn in turns:
        said = {*plain(turn.user_message).split()}
        told = [one.name for one in customer.payees if one.name in turn.assistant_response]
        named = [one.name for one in customer.payees if said & {*plain(one.name).split()}]
        if found := [name for name in told if name in named] or told or named:
            break
    else:
        return message
    return P["person"].sub(rf"\g<link> {found[0]}", message) if len({*found}) == 1 else message


def _in_same_days(message: str, turns: Sequence[Message]) -> str:
    """Return the message with the days of the sums and lists shown before in place of "the same months"."""
    if not (same := P["same_days"].search(message)):
        return message
    several, number = same["unit"].endswith("s"), NUMBERS.get((same["number"] or same["both"] or "").lower(), 0)
    shown: list[tuple[str, str]] = []
    for place, calls in enumerate(shown_calls(turns)):
        days = [(one.arguments.get("date_from", ""), one.arguments.get("date_to", "")) for one in reversed(calls)]
        shown += [one for one in dict.fromkeys(days) if all(one) and one not in shown]
        long = place == 0 and len(shown) == 1 and _length(*shown[0]) > LONG
        if not several or (place == 0 and len(shown) > 1) or long or len(shown) >= (number or 2):
            break
    shown = shown[: number or (len(shown) if several else 1)]
    words = " and ".join(f"in {_spelled(*days)}" for days in reversed(shown))
    return f"{message[: same.start()]} {words}{message[same.end() :]}" if words else message


def _length(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)).days


def _spelled(first: str, last: str) -> str:
    """`October 2026` for days from the first of a month, else `3 May 2026 to 9 May 2026`."""
    begin, end = date.fromisoformat(first), date.fromisoformat(last)
    if begin.day == 1 and (begin.year, begin.month) == (end.year, end.month) and end.day > LONG - 7:
        return f"{calendar.month_name[end.month]} {end.year}"
    return " to ".join(f"{one.day} {calendar.month_name[one.month]} {one.year}" for one in (begin, end))
