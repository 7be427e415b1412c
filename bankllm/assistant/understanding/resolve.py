"""Turn the copied words of tool calls into values of the customer's own data, or into one question.

A call is a `Question` until nothing is missing or unclear; only in a call that reads an argument may fit nothing of the
customer's. No action rests on a guess.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date

from bankllm.assistant.bank.time_units import last_whole
from bankllm.assistant.bank.tools import MAX_CALLS, Call
from bankllm.assistant.facts import Question, ReadyCall
from bankllm.assistant.understanding import orders, patterns, readers
from bankllm.assistant.understanding.completion import completed, with_currency, with_status
from bankllm.assistant.understanding.customer import CustomerView, accounts_named, by_label
from bankllm.assistant.understanding.names import fitting, plain
from bankllm.assistant.understanding.readers import Ask, P, Unread, Values
from bankllm.assistant.understanding.sum_wishes import SUMS, WISHES, wish
from bankllm.assistant.understanding.unused import without_unused

REQUIRED = {
    "freeze_card": ("card",),
    "unfreeze_card": ("card",),
    "report_card": ("kind", "card"),
    "replace_card": ("card",),
    "set_limit": ("card", "amount"),
    "transfer": ("amount", "to"),
}
"""Acting tool → arguments that it cannot do without, in the order in which they are asked for."""
USABLE = {"freeze_card": ("active",), "unfreeze_card": ("frozen",)}
"""Tool → status of the cards that it can be about; other tools: active and frozen cards."""
REPORTED = ("lost", "stolen")
"""Status of the cards that a new card is for, if there are any."""
INCOME = frozenset(("benefits", "income", "interest", "other income", "salary"))
"""Categories of money that comes in."""
DUE: Call = {"tool": "standing_orders"}
"""All regular payments, of which a message beside a balance may name the days."""
LAST_IN = patterns("patterns")["last_in"]


def resolve(
    calls: Sequence[Call], customer: CustomerView, today: date, message: str = ""
) -> list[ReadyCall | Question]:
    """Return for each call what can be run, or the question to ask first; equal calls once.

    `message` is the one that the calls are from; it completes a call that is the only one, and nothing of it that
    restricts is left out. Never raises for what a customer wrote.
    """
    said = message
    calls = [call for number, call in enumerate(calls) if call not in calls[:number]]
    if any(call.keys() & WISHES for call in calls):
        message = wish(message).plain
    calls = _with_last_in(calls, message)
    if len(calls) == 1 and message:
        calls = [completed(calls[0], message, customer, today)]
    elif {call["tool"] for call in calls} == {"balance", "standing_orders"}:
        calls = [completed(call, message, customer, today) if call == DUE else call for call in calls]
    if any(call["tool"] == "freeze_card" for call in calls):  # it can be undone, and a lost card may be found
        calls = [call for call in calls if (call["tool"], call.get("kind")) != ("report_card", "lost")]
    ready: list[ReadyCall | Question] = []
    calls = [each for call in calls for each in _of_other_accounts(call, customer)]
    calls = [each for call in calls for each in _of_all(call, customer)]
    calls = _with_included([without_spacing(call, message) for call in calls], message, customer)[:MAX_CALLS]
    calls = [with_status(with_currency(call, message), len(calls), message) for call in calls]
    for call in calls:
        if (found := _ordered(call, calls, customer, today, message)) not in ready:
            ready.append(found)
    if any(one.tool == "transfer" and isinstance(one, ReadyCall) and one.unread for one in ready):
        ready = [one for one in ready if one.tool != "account_details"]  # the sort code is the payee's
    if len(calls) == len(ready) == 1 and calls[0].get("merchant") and plain(calls[0]["merchant"]) == plain(said):
        (only,) = ready
        text = (
            f"I did not understand {readers.quoted(said)}. If it is a shop or a person, you have no payments with it."
        )
        return [replace(only, unread=(text,))] if isinstance(only, ReadyCall) and only.unread else ready
    return without_unused(said, calls, ready, customer, today) if said else ready


def _ordered(
    call: Call, calls: Sequence[Call], customer: CustomerView, today: date, message: str
) -> ReadyCall | Question:
    """Resolve a call; an order to pay or to cancel also by what the message says beyond it."""
    if call["tool"] == "cancel_transfer" and len(calls) == 1:
        return orders.cancelled(message, customer)
    if call["tool"] == "transfer" and message:
        alone = sum(one["tool"] == "transfer" for one in calls) == 1
        call = orders.with_source(orders.with_day(call, message), message, customer) if alone else call
        call = orders.with_target(call, message, customer) if alone else call
        call = orders.with_whole_balance(call, message, customer) if alone else call
        if reason := orders.impossible(call, message, customer, today, alone=alone):
            return ReadyCall("transfer", {}, (reason,))
    if call["tool"] == "card_status":
        call = orders.with_named_card(call, message, customer)
    if "card" in REQUIRED.get(call["tool"], ()):
        call = orders.frozen_or_not(orders.with_card(call, message), message)
        if message and "card" in call and plain(call["card"]) not in plain(message) and not _is_card(call, customer):
            call = {name: words for name, words in call.items() if name != "card"}  # words of an earlier message
    return _resolved(call, customer, today)


def _is_card(call: Call, customer: CustomerView) -> bool:
    try:
        return bool(readers.card(call["card"], customer, ()))
    except (Ask, Unread):
        return False


def _of_other_accounts(call: Call, customer: CustomerView) -> list[Call]:
    """Return for the balance of all but one account ("not the joint") a call for each of the others."""
    other = P["not_this"].fullmatch(call.get("account", "")) if call["tool"] == "balance" else None
    named = accounts_named(other[1], customer.accounts) if other else []
    others = [label for label, one in by_label(customer.accounts).items() if one not in named]
    return [{**call, "account": label} for label in others] if named and others else [call]


def _of_all(call: Call, customer: CustomerView) -> list[Call]:
    """Return a call for each merchant of a plural: "pensions" are the State Pension and the Works Pension."""
    words = call.get("merchant", call.get("category", ""))
    known = fitting(words, customer.merchants, typos=False) or fitting(words, customer.categories, partial=False)
    if known or not words.endswith("s"):
        return [call]
    named = fitting(words.removesuffix("s"), customer.merchants, typos=False)
    others = {name: value for name, value in call.items() if name != "category"}
    return [{**others, "merchant": name} for name in named] if len(named) > 1 else [call]


def _with_last_in(calls: list[Call], message: str) -> list[Call]:
    """Return the calls; what was last put into an account is one payment in, of the account whose balance is asked."""
    if not LAST_IN.search(message):
        return calls
    accounts = {call["account"] for call in calls if call["tool"] == "balance" and "account" in call}
    account = {"account": accounts.pop()} if len(accounts) == 1 else {}
    if not account and re.search(r"\baway\b", message):
        account = {"account": "savings"}
    if account and all(call["tool"] == "balance" for call in calls):
        return [*calls, {"tool": "transactions", **account, "direction": "in", "limit": "1"}]
    lists = [call["tool"] == "transactions" and not call.keys() & {"merchant", "category"} for call in calls]
    last = {**account, "direction": "in", "limit": "1"}
    return [{**call, **last} if listed else call for call, listed in zip(calls, lists, strict=True)]


def without_spacing(call: Call, message: str) -> Call:
    """Return the call as a list, without a period that says how near two payments were: "twice within two days"."""
    spacing = P["spacing"].search(message) if "period" in call else None
    if not spacing or call["period"].lower() not in spacing[0].lower():
        return call
    return {name: words for name, words in call.items() if name != "period"} | {"tool": "transactions"}


def _with_included(calls: list[Call], message: str, customer: CustomerView) -> list[Call]:
    """Return the calls, and those of a merchant whose other shops are to be counted: "Express shops included"."""
    included = P["included"].search(message)
    word = plain(next(filter(None, included.groups()))) if included else ""
    named = {call["merchant"] for call in calls if call["tool"] in SUMS and "merchant" in call}
    others = [
        {**call, "merchant": name}
        for call in calls
        for name in customer.merchants
        if call.get("merchant") in named - {name}
        and {word, plain(call["merchant"])} <= set(plain(name).split())
        and not fitting(name, named, partial=False)
    ]
    return [*calls, *others] if word else calls


def _resolved(call: Call, customer: CustomerView, today: date) -> ReadyCall | Question:
    values, unread = Values(), list[str]()
    slots = dict.fromkeys((*REQUIRED.get(call["tool"], ()), *call))
    for slot in sorted(slots, key=lambda slot: slot not in call):  # what is wrong comes before what is missing
        try:
            if slot != "tool" and not (slot == "category" and "merchant" in call):
                values = read(call, slot, customer, today) | values
            _check(call, values)
        except Ask as ask:
            if unread:
                continue  # what fits nothing is said before anything is asked
            return Question(call["tool"], slot, str(ask), ask.options, call)
        except Unread as error:
            unread.append(str(error))
    if call["tool"] == "spending" and not unread and not values.keys() - {"direction", "foreign"}:
        text = "For which days do you want to know it? For example: this month, October, or since 1 March."
        return Question("spending", "period", text, call=call)
    if "per" in values and "date_to" not in values and values["per"] != "payment":
        values["date_to"] = last_whole(values["per"], today).isoformat()
    if call["tool"] == "spending" and values.get("category") == "fees":
        values.pop("direction", None)  # fees are paid, whatever else of the message came in
    if call["tool"] in ("spending", "transactions") and values.get("category") in INCOME:
        values["direction"] = "in"
    return ReadyCall(call["tool"], values, tuple(unread))


def read(call: Call, slot: str, customer: CustomerView, today: date) -> Values:
    """Return the values of one argument."""
    tool, words = call["tool"], call.get(slot)
    acts = tool in REQUIRED
    if slot == "card":
        usable = USABLE.get(tool, ("active", "frozen"))
        if tool == "replace_card":
            reported = [one for one in customer.cards if one.status in REPORTED]
            usable = REPORTED if reported else (*usable, "expired")
        return readers.card(words, customer, usable)
    if slot == "to":
        return readers.payee(words, customer)
    if words is None and slot == "kind":
        raise Ask("What happened to the card?", ("lost", "stolen"))
    if words is None:
        raise Ask("How much do you want to transfer?" if tool == "transfer" else "What is the new limit?")
    readers_of: dict[str, Callable[[], Values]] = {
        "period": lambda: readers.period(words, customer, today, future=tool == "standing_orders"),
        "date": lambda: readers.day(words, today, future=acts),
        "amount": lambda: readers.amount(words, "amount_minor", customer),
        "minimum": lambda: readers.bound(words, "minimum_minor", customer),
        "maximum": lambda: readers.bound(words, "maximum_minor", customer),
        "limit": lambda: readers.limit(words),
        "without": lambda: readers.left_out(words, customer),
        "foreign": lambda: readers.foreign(words, customer),
        "merchant": lambda: readers.subject("merchant", words, customer, near=tool == "standing_orders"),
        "category": lambda: readers.subject("category", words, customer),
        "account": lambda: readers.account(words, "account_id", customer, pays=acts),
        "from": lambda: readers.account(words, "from_account_id", customer, pays=acts),
    }
    return readers_of[slot]() if slot in readers_of else {slot: words}


def _check(call: Call, values: Values) -> None:
    """Ask about values that contradict each other."""
    if values.get("minimum_minor", 0) > values.get("maximum_minor", 10**18):
        wrong = f"No amount is above {call['minimum']} and below {call['maximum']}."
        raise Ask("Which amounts do you mean?", wrong=wrong)
    if "to_account_id" in values and values["to_account_id"] == values.get("from_account_id"):
        raise Ask("From which account do you want to pay?", wrong="The money would stay in the same account.")
