"""What an order to pay says beyond its call: parts that cannot be done, and whom the message names.

An order with a part that is not possible is refused as a whole: without the part it would be another order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import Any

from bankllm.assistant.bank.ledger import format_money
from bankllm.assistant.bank.tools import Call
from bankllm.assistant.facts import ReadyCall
from bankllm.assistant.understanding import amounts, patterns, periods
from bankllm.assistant.understanding.customer import CustomerView, accounts_named, by_label
from bankllm.assistant.understanding.names import fitting, plain
from bankllm.errors import UsageError

POSSIBLE = "I can send one amount to one saved payee, or to another account of yours, on one day."
IN_APP = {
    "number": "Save the payee in the app first: “Payments”, “Payees”, “New”.",
    "repeat": "To pay at regular times, set up a standing order in the app: “Payments”, “Standing orders”, “New”.",
}
"""Word of what is impossible → how the customer does it in the app."""
LONGEST_NAME = 4
"""Words of the longest payee's name that is looked for."""
IMPOSSIBLE = patterns("impossible")
CHANGES = patterns("changes")
FACTORS = {"double": 2, "triple": 3, "half": 0.5}
"""Change → by what it multiplies the amount."""
P = patterns("orders_to_pay")
CARD = re.compile(rf"\b(?:{patterns('arguments')['card'].pattern})(?!\w)", re.IGNORECASE)


def impossible(call: Call, message: str, customer: CustomerView, today: date, *, alone: bool = True) -> str | None:
    """Return why the transfer that the message orders cannot be done; None if nothing in it says so.

    `alone`: the message orders no other transfer.
    """
    text = message.replace(call.get("reference") or "\0", " ")
    what = next((key for key, pattern in IMPOSSIBLE.items() if pattern.search(text)), None)
    if what is None and alone and _several(text, customer):
        what = "split an amount or pay several payees at a time"
    if what is None and P["over"].match(call.get("date", "")):
        what = "send money on a day that is over"
    if what is None and "from" not in call and (source := P["source"].search(text)):
        words = source[1]
        own = accounts_named(words, customer.accounts) or P["no_source"].match(words) or _is_day(words, today)
        what = None if own else f"send money from “{words}”, only from your own accounts"
    more = next((f" {text}" for word, text in IN_APP.items() if what and word in what), "")
    return f"I cannot {what}. {POSSIBLE}{more}" if what else None


def changed_order(tool: str, arguments: Mapping[str, Any], message: str) -> ReadyCall | None:
    """Return the order that waits for a yes as the message changes it; None if it says nothing of this kind."""
    changed: dict[str, Any] = {}
    if amount := arguments.get("amount_minor"):
        times = next((factor for name, factor in FACTORS.items() if CHANGES[name].fullmatch(message)), None)
        to = CHANGES["make_it"].fullmatch(message)
        try:
            money = amounts.amount(to[1]) if to else None
        except UsageError:
            money = None
        changed = {"amount_minor": int(amount * times)} if times else {}
        if money and money.currency in (None, arguments.get("currency")):
            changed = {"amount_minor": money.amount_minor}
    if arguments.get("to_account_id") and CHANGES["other_way"].search(message):
        sides = ("from_account_id", "to_account_id")
        changed = {side: arguments[other] for side, other in zip(sides, reversed(sides), strict=True)}
    return ReadyCall(tool, {**arguments, **changed}) if changed else None


def declines(message: str) -> bool:
    """Whether the customer will do without the bank: "no. I shall give it to her in person"."""
    if not P["plan"].search(message):
        return False
    says_no = P["says_no"].match(message) and not P["restates"].search(message)
    return bool(says_no or P["without_bank"].search(message))


def takes_back(calls: Sequence[Call], message: str) -> bool:
    """Whether the message takes an order back, from which a transfer was read all the same.

    It takes back what it declines, and what it says no to without an argument of another order. “In person” is no wish
    for a person.
    """
    transfers = [call for call in calls if call["tool"] == "transfer"]
    if declines(message):
        in_person = P["without_bank"].search(message) and any(call["tool"] == "human_agent" for call in calls)
        return bool(transfers or in_person)
    said = any(words in message for call in transfers for name, words in call.items() if name != "tool")
    return bool(transfers and P["says_no"].match(message) and not said)


def frozen_or_not(call: Call, message: str) -> Call:
    """Return a call that freezes or unfreezes a card with the tool that the message names, which may be the opposite.

    "Freeze it again" after an unfreeze was read as another unfreeze.
    """
    freezes, unfreezes = P["freezes"].search(message), P["unfreezes"].search(message)
    if call["tool"] not in ("freeze_card", "unfreeze_card") or bool(freezes) == bool(unfreezes):
        return call
    return {**call, "tool": "freeze_card" if freezes else "unfreeze_card"}


def with_day(call: Call, message: str) -> Call:
    """Return the call with the words for a day that it lacks, so that they are read or asked, and not dropped.

    A past day that tells what the money is for ("for the pizza from last night") is none.
    """
    day, text = call.get("date", ""), message.replace(call.get("reference") or "\0", " ")
    if P["over"].match(day) and re.search(rf"\bfor\b.*{re.escape(day)}", text, re.IGNORECASE):
        return {name: words for name, words in call.items() if name != "date"}
    said = None if day else P["when"].search(text)
    return {**call, "date": said[0]} if said else call


def with_target(call: Call, message: str, customer: CustomerView) -> Call:
    """Return the call with the whole name of the payee, if the message has it beside a part that fits several.

    Money that is moved out of another account, to nobody, goes to the only current account.
    """
    source = accounts_named(call["from"], customer.accounts) if "from" in call and "to" not in call else []
    current = [label for label, one in by_label(customer.accounts).items() if one.kind == "current"]
    if source and P["other_account"].search(message) and len(customer.accounts) > 2:
        return {**call, "to": "other account"}
    payees = [payee.name for payee in customer.payees]
    unclear = fitting(call["to"], payees, typos=False) if "to" in call else []
    whole = [name for name in unclear if plain(name) in plain(message)]
    if len(unclear) > 1 and len(whole) == 1:
        return {**call, "to": whole[0]}
    moved = len(source) == len(current) == 1 and source[0].kind != "current" and P["moves"].search(message)
    return {**call, "to": current[0]} if moved else call


def with_source(call: Call, message: str, customer: CustomerView) -> Call:
    """Return the call with the account that the money is taken from: "take £50 off the savings and send it to Mum"."""
    source = P["source_account"].search(message) if "from" not in call else None
    if not source or len(accounts_named(source["words"], customer.accounts)) != 1:
        return call
    if call.get("to", "").lower() == source["words"].lower():
        (first, last, _), *more = named_payees(message, customer) or [(0, 0, [])]
        to = " ".join(plain(message).split()[first:last])
        call = {name: words for name, words in call.items() if name != "to"} | ({"to": to} if to and not more else {})
    return {**call, "from": source["words"]}


def with_whole_balance(call: Call, message: str, customer: CustomerView) -> Call:
    """Return the call with the balance of the account to empty: "move everything in savings to current"."""
    found = (
        P["everything"].search(message) if "amount" not in call and not P["not_everything"].search(message) else None
    )
    source = accounts_named(found["source"] or found["own"], customer.accounts) if found else []
    if not found or len(source) != 1 or source[0].kind == "credit":
        return call
    (account,), rest = source, message.replace(found[0], " ")
    label = next(label for label, one in by_label(customer.accounts).items() if one is account)
    to = P["into"].search(rest)
    known = to and (accounts_named(to[1], customer.accounts) or fitting(to[1], by_label(customer.payees), typos=False))
    target = {"to": to[1]} if to and known else {}
    whole = min(account.balance_minor, account.available_minor)
    amount = {"amount": format_money(whole, account.currency)} if whole > 0 else {}
    return {**call, **target, **amount, "from": label}


def with_card(call: Call, message: str) -> Call:
    """Return the call with the card that the message names, or with the words for several."""
    if ending := next((match[0] for match in CARD.finditer(message) if match[3]), ""):
        return {**call, "card": ending}
    if several := None if "card" in call else P["cards"].search(message):
        return {**call, "card": several[0]}
    if call["tool"] not in ("report_card", "replace_card"):
        return call
    said = [] if "card" in call else [match[1] or match[2] for match in CARD.finditer(message) if match[1] or match[2]]
    return {**call, "card": said[0]} if said else call


def with_named_card(call: Call, message: str, customer: CustomerView) -> Call:
    """Return the call with the card that the message names, if it is one card of the customer."""
    said = [next(filter(None, match.groups()), match[0]) for match in CARD.finditer(message)]
    names = [
        [f"{one.name} {one.last4}" for one in customer.cards],
        [f"{one.kind} {one.last4}" for one in customer.cards],
    ]
    found = [fitting(words, cards, typos=False) for words in said for cards in names]
    last4 = next((one[0][-4:] for one in found if len(one) == 1), None)
    return {**call, "card": last4} if last4 else call


def cancelled(message: str, customer: CustomerView) -> ReadyCall:
    """Return the call that cancels the waiting transfer that the message names; without a name, it may be any."""
    values: dict[str, Any] = {}
    labels = {tuple(labels) for _, _, labels in named_payees(message, customer)}
    if len(labels) == 1 and len(only := labels.pop()) == 1:
        values["payee_id"] = by_label(customer.payees)[only[0]].payee_id
    elif not labels and (to := P["cancelled_to"].search(message)) and not accounts_named(to[1], customer.accounts):
        return ReadyCall("cancel_transfer", unread=(f"You have no saved payee “{to[1]}”.",))
    elif not labels and (other := P["cancelled_other"].fullmatch(message)):
        text = f"I found no transfer, direct debit, standing order or subscription “{other[1]}” that I could cancel."
        return ReadyCall("cancel_transfer", unread=(text,))
    if (said := P["money"].search(message)) and (money := amounts.amount(said[0])):
        values["amount_minor"] = money.amount_minor
    return ReadyCall("cancel_transfer", values)


def named_payees(message: str, customer: CustomerView) -> list[tuple[int, int, list[str]]]:
    """Return the names of saved payees in a message: first and last word's place, and the labels that fit."""
    words, found = plain(message).split(), []
    place = 0
    while place < len(words):
        name = next(_names_at(words, place, customer), None)
        if name:
            found.append(name)
        place = name[1] if name else place + 1
    return found


def _names_at(words: list[str], place: int, customer: CustomerView) -> Iterator[tuple[int, int, list[str]]]:
    payees = by_label(customer.payees)
    for end in range(min(len(words), place + LONGEST_NAME), place, -1):
        piece = " ".join(words[place:end])
        if labels := [] if P["no_payee"].fullmatch(piece) else fitting(piece, payees, typos=False):
            yield place, end, labels


def _several(message: str, customer: CustomerView) -> bool:
    """Whether the message lists different payees."""
    words, named = plain(message).split(), named_payees(message, customer)
    return any(
        not set(one[2]) & set(other[2]) and P["listed"].fullmatch(" ".join(words[one[1] : other[0]]))
        for one, other in pairwise(named)
    )


def _is_day(words: str, today: date) -> bool:
    try:
        return periods.day(words, today, future=True) is not None or periods.period(words, today) is not None
    except UsageError:
        return True


def without_counts(calls: Sequence[Call], message: str) -> list[Call]:
    """Return the calls without transfers whose amount counts something else: "give me another 15 minutes".

    An amount that the message denies is left out: "Shaw, but not 45".
    """
    kept: list[Call] = []
    for call in calls:
        said = rf"(?<![\w.,]){re.escape(call.get('amount', '-'))}"
        if call["tool"] == "transfer" and re.search(rf"{said} ?(?:{P['counted'].pattern})", message, re.IGNORECASE):
            continue
        denied = call["tool"] == "transfer" and re.search(rf"\bnot {said}(?![\w.,]*\d)", message, re.IGNORECASE)
        kept.append({name: words for name, words in call.items() if name != "amount" or not denied})
    return kept
