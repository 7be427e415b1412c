"""What a message asks of regular payments: when one is due next, which of those shown are due, and if money is enough.

The payment, the kinds and the account that it does not name are those of the reply before it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from bankllm.assistant.earlier.shown import DAYS, REGULAR, shown_calls
from bankllm.assistant.facts import ReadyCall
from bankllm.assistant.followups import asks, is_follow_up, points_back
from bankllm.assistant.tools.standing_orders import SUBJECTS, kinds_named
from bankllm.assistant.understanding import patterns
from bankllm.assistant.understanding.completion import account_named
from bankllm.assistant.understanding.customer import CustomerView, accounts_named
from bankllm.assistant.understanding.readers import Ask, Unread, period, subject
from bankllm.assistant.understanding.slots import Slots
from bankllm.assistant.understanding.sum_wishes import SUMS
from bankllm.vectors.namespaces import Message

P = patterns("due")
FEW = 6
"""Words of a message that may only name another regular payment."""
LATEST = 3
"""Turns in which the payments that money must be enough for were shown."""
KEPT = frozenset(("kinds", "account_id", *DAYS))
"""Arguments of the payments that were shown, whichever one of them the message means."""
Named = Callable[[str], Sequence[str]]
"""Message → the words in it for merchants and categories."""


def of_due(
    message: str, turns: Sequence[Message], customer: CustomerView, today: date, named: Named
) -> list[ReadyCall]:
    """Return the look-ups that answer a question about regular payments; empty if the message asks nothing of them."""
    last = next(shown_calls(turns[:2], customer), [])
    regular = bool(last) and last[-1].tool == REGULAR
    if P["left_after_bills"].search(message):
        days = _days(message, customer, today) or period("this month", customer, today, future=True)
        return [ReadyCall("balance"), ReadyCall(REGULAR, days)]
    without_next = P["next_one"].sub(" ", message)  # it is no shop called Next
    about_some = regular and all(one.arguments.keys() & SUBJECTS for one in last)
    if about_some and _is_short(message) and P["adds"].match(message) and (more := _named(message, customer, named)):
        return [*last, *(one for one in more if one not in last)]
    if last and last[-1].tool in SUMS and P["ahead"].fullmatch(message) and _of_last(last):
        return [ReadyCall(REGULAR, {**_of_last(last)[-1].arguments, **_days(message, customer, today)})]
    if P["still"].search(message) and (found := _named(without_next, customer, named, _days(message, customer, today))):
        return found
    if P["can_pay"].search(message) and (due := _named(without_next, customer, named)):
        return [ReadyCall("balance"), *due]
    rest = P["waits"].sub(" ", message)
    waits = rest != message and not P["over"].search(message)  # a payment that waits is a coming one, in any tense
    if (P["past"].search(message) and not waits) or P["how_to"].search(rest):
        return []
    if P["enough"].search(message) or (regular and P["leaves"].search(message)):
        return _enough(message, turns, customer, today)
    if last and P["leaves"].search(message):
        return [ReadyCall("balance")] if last[-1].arguments.get("status") == "pending" else []
    if regular and last[-1].arguments.keys() & SUBJECTS and P["how_much_is"].fullmatch(message):
        return [*last]
    account = account_named(message, customer) if regular and points_back(message) and asks(message) else None
    if account:
        held = accounts_named(account, customer.accounts)
        return [ReadyCall(REGULAR, {**last[-1].arguments, "account_id": held[0].account_id})]
    asks_due = P["asks_due"].search(message)
    days = _days(message, customer, today) if regular or waits else {}
    follows = regular and is_follow_up(message) and _is_short(message)
    about = asks_due or follows or waits
    if about and (found := _named(without_next, customer, named, days)):
        return found
    if P["coming_out"].fullmatch(message) and not named(without_next) and (ahead := _days(message, customer, today)):
        return [ReadyCall(REGULAR, ahead)]
    if asks_due and kinds_named(message) and not (days or named(without_next)):
        return [ReadyCall(REGULAR)]
    if asks_due and P["refers"].search(message) and not days:
        return _of_last(last)
    if regular and days and P["of_those"].search(message):
        kept = {name: value for name, value in last[-1].arguments.items() if name in ("kinds", "account_id")}
        return [ReadyCall(REGULAR, {**kept, **days})]
    return []


def _named(
    message: str, customer: CustomerView, named: Named, days: Mapping[str, Any] | None = None
) -> list[ReadyCall]:
    found = [subject_of(words, customer) for words in named(message)]
    different = [each for number, each in enumerate(found) if each and each not in found[:number]]
    return [ReadyCall(REGULAR, {**each, **(days or {})}) for each in different]


def _of_last(last: Sequence[ReadyCall]) -> list[ReadyCall]:
    """Return the regular payment of what was shown last; the same list if that was one."""
    if last and last[-1].tool == REGULAR:
        return [*last]
    about = [{name: value for name, value in one.arguments.items() if name in SUBJECTS} for one in last]
    return [ReadyCall(REGULAR, about[-1])] if last and about[-1] and last[-1].tool in SUMS else []


def _enough(message: str, turns: Sequence[Message], customer: CustomerView, today: date) -> list[ReadyCall]:
    """Return the balance, and the regular payments for which it must be enough."""
    shown = [one for calls in shown_calls(turns[:LATEST], customer) for one in calls if one.tool == REGULAR]
    different = [one for number, one in enumerate(shown) if one not in shown[:number]]
    days = _days(message, customer, today)
    kept = {name: value for one in different[:1] for name, value in one.arguments.items() if name in KEPT}
    due = different[: 2 if P["both"].search(message) else 1]
    if days:
        due = [ReadyCall(REGULAR, {**kept, **days})]
    words = account_named(message, customer)
    account = accounts_named(words, customer.accounts)[0].account_id if words else kept.get("account_id")
    return [ReadyCall("balance", {"account_id": account} if account else {}), *due] if due else []


def _days(message: str, customer: CustomerView, today: date) -> dict[str, Any]:
    """Return the coming days that the message names; none if it names no days or some that are over."""
    if not (words := Slots(message, {}, today).periods()):
        return {}
    try:
        return period(words[-1], customer, today, future=True)
    except (Ask, Unread):
        return {}


def subject_of(words: str, customer: CustomerView) -> dict[str, Any]:
    """Return the merchant, category or payee that words name; empty if they name none of the customer's."""
    try:
        return subject("merchant", words, customer, near=True)
    except (Ask, Unread):
        return {}


def _is_short(message: str) -> bool:
    return len(message.split()) <= FEW
