"""What a message asks of the figures and rows that replies before it showed: their difference, their sum, one of them.

The calls of earlier replies are kept with their turns, so that such a message does not depend on reading the earlier
messages again.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

from bankllm.assistant.bank.tools import Call
from bankllm.assistant.facts import Facts, Question, ReadyCall
from bankllm.assistant.tools.standing_orders import PICKS, kinds_named
from bankllm.assistant.tools.transactions import USUAL_COUNT
from bankllm.assistant.understanding import WORDS, patterns
from bankllm.assistant.understanding.amounts import limit
from bankllm.assistant.understanding.completion import account_named, only_account
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.readers import Ask, Unread, account, left_out, period
from bankllm.assistant.understanding.slots import ORDERS
from bankllm.assistant.understanding.sum_wishes import SUMS, UNITS
from bankllm.assistant.understanding.sum_wishes import P as FIGURES
from bankllm.vectors.namespaces import Message

KEPT = frozenset(("balance", "spending", "standing_orders", "transactions"))
"""Tools whose calls are kept with a turn."""
REGULAR = "standing_orders"
SUBJECT = ("merchant", "category", "account_id", "direction", "without")
DAYS = ("date_from", "date_to")
ROWS_ONLY = frozenset(("limit", "order", "minimum_minor", "maximum_minor", "status"))
"""Arguments of a list of which there is no sum."""
NUMBERS = {"both": 2, "two": 2, "three": 3, "four": 4, "five": 5}
WEEK = 7
SHORT = 9
"""Words of a message that may compare its figure with the one before."""
FEW = 12
"""Words of a message that may add its figure to the one before."""
NOBODY = CustomerView()
P = patterns("shown")
WHICH = Facts("I do not know which payment you mean. Tell me the shop or person, the day, or the amount.")

CHOSEN_ROWS = Facts(
    "I cannot give an average of payments that are chosen by their number, amount or status. I can give the average of "
    "all payments of some days, or of one merchant or category."
)


def of_shown(message: str, turns: Sequence[Message], customer: CustomerView, today: date) -> list[ReadyCall | Facts]:
    """Return what answers a message that only names what was shown; empty if it says anything else."""
    if P["asked_about"].fullmatch(message):
        return [WHICH]
    if P["total_accounts"].fullmatch(message):
        return [ReadyCall("balance")]
    told = turns and not (turns[0].calls or turns[0].question)
    if told and P["same_row"].fullmatch(message) and P["past"].search(message):
        return [WHICH]
    if not (last := next(shown_calls(turns, customer), [])):
        return []
    if P["difference"].fullmatch(message) or P["left"].fullmatch(message):
        if last[0].tool == "balance":
            two = _different([call for calls in shown_calls(turns) for call in calls if call.tool == "balance"])[:2]
            return list(two)
        two = last if len(last) == 2 else _sums(turns)[:2]
        return list(two) if len(two) > 1 else []
    if last[0].tool == "balance" and P["total"].fullmatch(message) and _number(message) > len(last):
        return [ReadyCall("balance", {name: day for name, day in last[0].arguments.items() if name == "date"})]
    if P["total"].fullmatch(message):
        return list(_totalled(message, last, turns))
    call = last[-1]
    without = FIGURES["without"].search(message)
    only_without = without and P["fillers"].fullmatch(message[: without.start()] + message[without.end() :])
    if without and only_without and len(last) > 1:
        try:
            refused = left_out(without["words"], customer)["without"]
        except Unread:
            refused = []
        others = [one for one in last if not any(each.items() <= one.arguments.items() for each in refused)]
        if 0 < len(others) < len(last):
            return [*others]
    if call.tool in KEPT and (words := only_account(message, customer)):
        return [ReadyCall(call.tool, {**call.arguments, **account(words, "account_id", customer, pays=True)})]
    held = call.arguments.get("account_id")
    if held and P["other_account"].fullmatch(message):
        ids = [one.account_id for one in customer.accounts if one.account_id != held]
        return [ReadyCall(call.tool, {**call.arguments, "account_id": other}) for other in ids]
    if P["converted"].fullmatch(message):
        return [ReadyCall("knowledge", {"article": "exchange_rate"})]
    if call.tool == "balance" and P["less_pending"].fullmatch(message):
        return [call]
    if call.tool == "balance" and P["now"].fullmatch(message):
        return [ReadyCall("balance", {name: value for name, value in call.arguments.items() if name != "date"})]
    if call.tool == REGULAR and (one := P["one"].fullmatch(message)):
        order = next(name for name, words in ORDERS.items() if words.match(one["which"]))
        return [ReadyCall(REGULAR, {**call.arguments, "order": order})] if order in PICKS else list(last)
    if call.tool == REGULAR and P["since_when"].fullmatch(message):
        about = {name: value for name, value in call.arguments.items() if name in ("merchant", "category")}
        return [ReadyCall("transactions", {**about, "order": "oldest", "limit": 1})] if about else []
    if call.tool == REGULAR and P["regular_again"].fullmatch(message):
        return list(last)
    if call.tool == REGULAR and only_without:
        return [Facts(WORDS["beyond_replies"]["except"])]
    if call.tool == REGULAR and "date_from" in call.arguments and P["next"].fullmatch(message):
        first, end = (date.fromisoformat(call.arguments[name]) for name in DAYS)
        coming = period("next week" if (end - first).days < WEEK else "next month", customer, today, future=True)
        return [ReadyCall(REGULAR, {**call.arguments, **coming})]
    if call.tool not in SUMS:
        return []
    if call.arguments.get("status") == "pending" and P["clears"].search(message):
        return [ReadyCall("knowledge", {"article": "pending_card_payment"})]
    if call.tool == "transactions" and (asked := P["sorted"].fullmatch(message)):
        order = next((name for name, words in ORDERS.items() if words.match(asked["by"])), "")
        order = order or ("newest" if asked["by"].lower() in ("date", "time", "day") else "largest")
        return [ReadyCall("transactions", {**call.arguments, "order": order})]
    if call.tool == "transactions" and P["more"].fullmatch(message):
        return [
            ReadyCall(
                "transactions", {**call.arguments, "limit": call.arguments.get("limit", USUAL_COUNT) + USUAL_COUNT}
            )
        ]
    count = P["count"].fullmatch(message) if call.tool == "transactions" and "limit" in call.arguments else None
    if count and (number := limit(count["number"])):  # "0" is no number of payments
        return [ReadyCall("transactions", {**call.arguments, "limit": number})]
    kept = {name: value for name, value in call.arguments.items() if name not in ("limit", "order", "per", "by")}
    subject = {name: value for name, value in call.arguments.items() if name in (*SUBJECT, "described")}
    if call.tool == "transactions" and not subject and P["spent_there"].search(message):
        return [WHICH]
    if subject and P["last_time"].fullmatch(message):
        return [ReadyCall("transactions", {**subject, "order": "newest", "limit": 1})]
    if P["same_row"].fullmatch(message):
        row = {name: value for name, value in call.arguments.items() if name not in ("per", "by")}
        return [ReadyCall("transactions", row)] if row else []
    if same := P["same"].fullmatch(message):
        try:
            return [ReadyCall(call.tool, {**call.arguments, **period(same["when"], customer, today)})]
        except (Ask, Unread):
            return []  # it names no days
    if (way := P["way"].fullmatch(message)) and bool(way["in"]) != bool(way["out"]):
        return [ReadyCall(call.tool, {**call.arguments, "direction": "in" if way["in"] else "out"})]
    if call.arguments.keys() >= {*DAYS} and P["saved"].fullmatch(message):
        days = {name: call.arguments[name] for name in DAYS}
        return [ReadyCall("spending", {**days, "direction": way}) for way in ("in", "out")]
    if subject and P["often_there"].fullmatch(message):
        return [ReadyCall("spending", {**kept, "per": "month"})]
    if unit := P["per"].fullmatch(message):
        return [ReadyCall("spending", {**kept, "per": unit["unit"].lower()})]
    if kept and P["how_much"].fullmatch(message):
        return [call if call.arguments.keys() & ROWS_ONLY else ReadyCall("spending", kept)]
    if kept and (average := P["average"].fullmatch(message)):
        if kept.keys() & ROWS_ONLY or call.arguments.get("limit", 1) > 1:
            return [CHOSEN_ROWS]
        each = next((one for one, words in UNITS.items() if words.search(average["each"] or "")), "payment")
        return [ReadyCall("spending", {**kept, "per": each})]
    if P["since_when"].fullmatch(message):
        subject = {name: value for name, value in kept.items() if name not in DAYS}
        return [ReadyCall("transactions", {**subject, "order": "oldest", "limit": 1})] if subject else []
    if one := P["one"].fullmatch(message):
        order = next(name for name, words in ORDERS.items() if words.match(one["which"]))
        if order == "newest" and P["when"].search(message):  # of all days, and not of those shown
            kept = {name: value for name, value in kept.items() if name not in DAYS}
        return [ReadyCall("transactions", {**kept, "order": order, "limit": 2 if one["second"] else 1})]
    if without and only_without:
        try:
            return [ReadyCall(call.tool, {**call.arguments, **left_out(without["words"], customer)})]
        except Unread as error:
            return [ReadyCall(call.tool, {}, (str(error),))]
    return []


def like_shown(calls: Sequence[Call], turns: Sequence[Message]) -> Sequence[Call]:
    """Return the calls; the list of the largest payments is as long as the one shown last, and of the same kind."""
    last = next(shown_calls(turns[:1]), [])
    if len(calls) != 1 or len(last) != 1 or {calls[0]["tool"], last[0].tool} != {"transactions"}:
        return calls
    kept = {name: str(value) for name, value in last[0].arguments.items() if name in ("limit", "kind")}
    same = calls[0].get("order") in PICKS and calls[0].get("order") == last[0].arguments.get("order")
    return [{**kept, **calls[0]}] if same else calls


def compared(
    items: Sequence[ReadyCall | Question | Facts], message: str, turns: Sequence[Message], today: date
) -> list[ReadyCall | Question | Facts]:
    """Return the items; the sum that a short message compares with the one before, after that one."""
    last = next(shown_calls(turns), [])
    shown, sums = _sums(turns), [one for one in items if isinstance(one, ReadyCall) and one.tool in SUMS]
    short = len(message.split()) <= SHORT
    if len(items) == len(sums) == 1 and (two := P["between"].search(message)):
        try:
            days = [period(words, CustomerView(), today) for words in two.groups()]
        except (Ask, Unread):
            return list(items)  # it names no two periods
        return [ReadyCall("spending", {**_about(sums[0], shown if short else ()), **each}) for each in days]
    few = len(message.split()) <= FEW
    if few and shown and len(sums) == len(items) == 1 and P["adds"].search(message) and not sums[0].unread:
        return [shown[0], ReadyCall("spending", _about(sums[0], shown))]
    short = bool(short and P["compares"].search(message))
    if short and sums and last and last[-1].tool == "balance" and "date_to" in sums[-1].arguments:
        return [last[-1], ReadyCall("balance", {**last[-1].arguments, "date": sums[-1].arguments["date_to"]})]
    if not (short and shown and sums) or len(sums) < len(items) or any(one.unread for one in sums):
        return list(items)
    if len(sums) == 2 and not P["refers"].search(message):
        return list(items)
    new = ReadyCall("spending", _about(sums[-1], shown))
    if new.arguments == shown[0].arguments:
        return list(shown[:2])
    return [shown[0], new]


def _about(call: ReadyCall, shown: Sequence[ReadyCall]) -> dict[str, object]:
    """Return the arguments of a sum; one of no merchant or category is about what the sum shown last is about."""
    own = {name: value for name, value in call.arguments.items() if name not in ROWS_ONLY}
    subject = {name: value for one in shown[:1] for name, value in one.arguments.items() if name in SUBJECT}
    return own if own.keys() & {"merchant", "category"} else {**own, **subject}


def dumped(calls: Sequence[tuple[str, object]]) -> str:
    """Return the calls of a reply, tools and arguments, as `Message.calls`; empty if there is nothing to keep."""
    kept = [call for call in calls if call[0] in KEPT]
    return json.dumps(kept) if kept else ""


def shown_calls(turns: Sequence[Message], customer: CustomerView = NOBODY) -> Iterator[list[ReadyCall]]:
    """Yield the calls of each turn that showed something, the newest turn first.

    Those of regular payments have the kinds that their question named, and the account of the customer.
    """
    for turn in turns:
        if not turn.calls:
            continue
        calls = [ReadyCall(tool, arguments) for tool, arguments in json.loads(turn.calls)]
        if any(one.tool == REGULAR for one in calls):
            named = {"kinds": found} if (found := kinds_named(turn.user_message)) else {}
            words = account_named(turn.user_message, customer)
            named |= account(words, "account_id", customer, pays=False) if words else {}
            calls = [
                replace(one, arguments={**named, **one.arguments}) if one.tool == REGULAR else one for one in calls
            ]
        yield calls


def _sums(turns: Sequence[Message]) -> list[ReadyCall]:
    """Return the different sums of the latest turns that showed only such, the newest first."""
    found: list[ReadyCall] = []
    for calls in shown_calls(turns):
        if any(call.tool not in SUMS or call.arguments.keys() & ROWS_ONLY for call in calls):
            break
        found += [ReadyCall("spending", _plain(call)) for call in reversed(calls)]
    return _different(found)


def _plain(call: ReadyCall) -> dict[str, object]:
    """Return the arguments without the direction that a sum has anyway."""
    return {name: value for name, value in call.arguments.items() if (name, value) != ("direction", "out")}


def _different(calls: Sequence[ReadyCall]) -> list[ReadyCall]:
    return [call for number, call in enumerate(calls) if call not in calls[:number]]


def _totalled(message: str, last: Sequence[ReadyCall], turns: Sequence[Message]) -> Sequence[ReadyCall]:
    """Return the calls whose figures the message adds up; those of the last reply if it says no number of several."""
    sums = _sums(turns)
    number = _number(message)
    if len(last) > 1 or not sums or not (number or P["several"].search(message)):
        return last if P["sum"].search(message) or len(last) > 1 else []
    alike = [one for one in sums if len(_differ(one, sums[0])) < 2 and _differ(one, sums[0]) <= _differ(*sums[:2])]
    return list(reversed(alike[: number or len(NUMBERS)])) if len(alike) > 1 else []


def _number(message: str) -> int:
    """Return how many figures the message says that it means; 0 if it does not say it."""
    return next((number for word, number in NUMBERS.items() if re.search(rf"\b{word}\b", message.lower())), 0)


def _differ(one: ReadyCall, *others: ReadyCall) -> set[str]:
    """Return what differs between two calls: `days`, or the name of an argument."""
    names = {name for other in others for name in one.arguments.keys() | other.arguments.keys()}
    differ = {name for name in names if any(one.arguments.get(name) != other.arguments.get(name) for other in others)}
    return {"days" if name in DAYS else name for name in differ}
