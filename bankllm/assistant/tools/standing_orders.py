"""Standing orders, direct debits, subscriptions and scheduled transfers, by the day on which they are due next, or all
of a period.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from itertools import count
from typing import Any

from dateutil.relativedelta import relativedelta

from bankllm.assistant.bank.ledger import ONCE, Bank, StandingOrder, Transaction, TransactionQuery, format_money
from bankllm.assistant.bank.statement import TO_PEOPLE, counted, day, money_in_all, month_total, period
from bankllm.assistant.facts import TOOLS, Facts, Request

SUBJECTS = frozenset(("merchant", "category", "to_account_id"))
"""Arguments that say of which payments the monthly amount is asked."""
REGULAR = "monthly, next"
"""Words before the day of what is paid each month."""
MONTHS = 3
"""Months that are summed where no order repeats."""
KINDS = {
    "standing_order": re.compile(r"\b(?:standing orders?|sos)\b", re.IGNORECASE),
    "direct_debit": re.compile(r"\b(?:direct debits?|dds?)\b", re.IGNORECASE),
    "subscription": re.compile(r"\bsubscriptions?\b", re.IGNORECASE),
    ONCE: re.compile(r"\b(?:scheduled|future|upcoming) (?:transfers?|payments? to)\b", re.IGNORECASE),
}
PICKS: dict[str, Callable[..., StandingOrder]] = {"largest": max, "smallest": min}
"""Order → which one of several payments it means."""
ALL = re.compile(r"\b(?:bills|outgoings)\b", re.IGNORECASE)
"""Words of a customer who means all kinds."""
A_YEAR = re.compile(r"\b(?:a|per|each|every) year\b|\b(?:yearly|annually)\b", re.IGNORECASE)
WHICH_ACCOUNT = re.compile(r"\b(?:which|what)(?: of (?:my|our|the))? accounts?\b", re.IGNORECASE)
"""Words of a customer who asks from where a payment is taken."""
FROM_ACCOUNT = r"\b(?:from|of|out of|on|in|leav(?:es?|ing)) (?:(?:my|the|our|own) )*{}\b"
NAMED = {"current": "(?:current|own account|personal account)"}
"""Kind of account → other words for it."""


@TOOLS.register("standing_orders")
def look_up(request: Request, bank: Bank) -> Facts:
    (orders, wanted, held), days, when = _wanted(request, bank), request.call.arguments, ""
    sources = tuple(f"ledger:{account}" for account in sorted({order.account_id for order in orders}))
    if "date_to" in days:
        when = f" due{period(days['date_from'], days['date_to'])}"
        due = [one for order in orders for one in _until(order, days["date_to"]) if one.next_due >= days["date_from"]]
        paid = paid_for(request.customer_id, days, bank) if days.keys() & {"merchant", "category"} else None
        orders = sorted((one for one in due if paid is None or one.name in paid), key=lambda order: order.next_due)
    elif days.keys() & SUBJECTS:
        return _costs(request, bank, orders)
    result = {"rows": [asdict(order) for order in orders]}
    if not orders:
        none = " or ".join(f"{'scheduled transfer' if kind == ONCE else kind.replace('_', ' ')}s" for kind in wanted)
        text = f"You have no {none.replace(' or ', ', ', len(wanted) - 2)}{' from that account' if held else ''}{when}."
        return Facts(text, (text,), sources, result=result)
    if pick := PICKS.get(days.get("order", "")):
        chosen = pick(orders, key=lambda order: order.amount_minor)
        kind, on = chosen.kind.replace("_", " "), "on" if when or chosen.kind == ONCE else REGULAR
        text = f"The {days['order']} of them{when} is the {kind} {_order(chosen)} {on} {day(chosen.next_due)}."
        hidden = (chosen.name,) * (chosen.kind in TO_PEOPLE)
        return Facts(text, (text,), (f"ledger:{chosen.account_id}",), hidden, {"rows": [asdict(chosen)]})
    monthly, once = ([one for one in orders if (one.kind == ONCE) == waits] for waits in (False, True))
    kinds = {one.kind for one in monthly}
    regular = kinds.pop().replace("_", " ") if len(kinds) == 1 else "regular payment"
    each_month = f" ({_total(monthly)} a month)" if not when and len(monthly) > 1 else ""
    named = [counted(len(monthly), regular) + each_month] * bool(monthly)
    named += [counted(len(once), "scheduled transfer")] * bool(once)
    payments = " and ".join(named) + (f"{when}, {_total(orders)} in all" if when else "")
    dated = [
        f"{_order(order)} {'on' if when or order.kind == ONCE else REGULAR} {day(order.next_due)}" for order in orders
    ]
    names = [order.kind.replace("_", " ").capitalize() for order in orders]
    listed = "\n".join(f"- {name}: {line}" for name, line in zip(names, dated, strict=True))
    text = f"You have {payments}{', the next one first' if orders[1:] else ''}:\n{listed}"
    text += f"\nIn a year that is {_total(monthly * 12)}." if monthly and A_YEAR.search(request.message) else ""
    private = tuple(dict.fromkeys(order.name for order in orders if order.kind in TO_PEOPLE))
    return Facts(text, (f"{payments}: {'; '.join(dated)}",), sources, private, result)


def kinds_named(message: str) -> list[str]:
    return [kind for kind, words in KINDS.items() if words.search(message) and not ALL.search(message)]


def _wanted(request: Request, bank: Bank) -> tuple[list[StandingOrder], list[str], set[str]]:
    """Return the orders of the kinds and of the account that the message or the call names, or all; and these both."""
    orders, said = list(bank.standing_orders(request.customer_id)), request.message
    kinds = kinds_named(said) or list(request.call.arguments.get("kinds", KINDS))
    held = {
        account.account_id
        for account in bank.accounts(request.customer_id)
        if account.account_id == request.call.arguments.get("account_id")
        or re.search(FROM_ACCOUNT.format(NAMED.get(account.kind, account.kind)), said, re.IGNORECASE)
    } - {request.call.arguments.get("to_account_id")}
    own = [order for order in orders if not held or order.account_id in held]
    return [order for order in own or orders if order.kind in kinds], kinds, held


def _until(order: StandingOrder, last: str) -> Iterator[StandingOrder]:
    """The order with each of its days up to the last one."""
    for months in range(1) if order.kind == ONCE else count():
        due = date.fromisoformat(order.next_due) + relativedelta(months=months, day=order.day)
        if due.isoformat() > last:
            return
        yield replace(order, next_due=due.isoformat())


def _order(order: StandingOrder) -> str:
    return f"{order.name} {format_money(order.amount_minor, order.currency)}"


def paid_for(customer_id: str, arguments: Mapping[str, Any], bank: Bank) -> set[str]:
    """Return who is paid for the merchant or category that the arguments name."""
    named = {name: words for name, words in arguments.items() if name in ("merchant", "category")}
    rows = bank.transactions(customer_id, TransactionQuery(**named))
    return {name for name in (named.get("merchant"), *(row.counterparty for row in rows)) if name}


def _costs(request: Request, bank: Bank, orders: list[StandingOrder]) -> Facts:
    """What one payment costs each month: by orders, or the sums of the latest months if no order is for it."""
    named = {name: words for name, words in request.call.arguments.items() if name in SUBJECTS}
    held = {account.account_id: account.name for account in bank.accounts(request.customer_id)}
    rows: Sequence[Transaction] = ()
    if "to_account_id" in named:
        about = f"your {held[named['to_account_id']]}"
        wanted = held[named["to_account_id"]].lower()
        orders = [order for order in orders if order.kind == "standing_order" and wanted in order.name.lower()]
    else:
        about = named.get("merchant") or named["category"]
        rows = bank.transactions(request.customer_id, TransactionQuery(**named))
        orders = [order for order in orders if order.name in paid_for(request.customer_id, named, bank)]
    accounts = {order.account_id for order in orders} or {row.account_id for row in rows}
    sources = tuple(f"ledger:{account}" for account in sorted(accounts or held))
    private = tuple(dict.fromkeys(order.name for order in orders if order.kind in TO_PEOPLE))
    result: dict[str, Any] = {"rows": [asdict(order) for order in orders]}
    if orders:
        what = f" {'to' if named.keys() & {'merchant', 'to_account_id'} else 'on'} {about}"
        total = _total(orders)
        names = [f"{_order(order)} " for order in orders] if orders[1:] or "category" in named else [""]
        from_accounts = held if WHICH_ACCOUNT.search(request.message) else {}
        each = [
            f"{name}{_repeats(order, from_accounts.get(order.account_id))}"
            for name, order in zip(names, orders, strict=True)
        ]
        if all(order.kind == ONCE for order in orders):
            waiting = "; ".join(f"{_order(order)} on {day(order.next_due)}" for order in orders)
            text = f"You have {counted(len(orders), 'scheduled transfer')}: {waiting}."
            return Facts(text, (text,), sources, private, result)
        text = f"You pay {total} each month{what}{': ' if names[0] else ' '}{'; '.join(each)}."
        return Facts(text, (text,), sources, private, result)
    text = f"I found no standing order, direct debit or subscription for {about}."
    months = sorted({row.booked[:7] for row in rows}, reverse=True)[:MONTHS]
    if months:
        totals = [_of_month([row for row in rows if row.booked[:7] == each]) for each in months]
        text += f" By month you had: {'; '.join(map(month_total, totals))}."
        result["by_month"] = totals
    return Facts(text, (text,), sources, result=result)


def _repeats(order: StandingOrder, account: str | None) -> str:
    source = f" from the {account}" if account else ""
    return f"by {order.kind.replace('_', ' ')}{source}, next on {day(order.next_due)}"


def _of_month(rows: Sequence[Transaction]) -> dict[str, Any]:
    total = sum(row.amount_minor for row in rows)
    return {"month": rows[0].booked[:7], "currency": rows[0].currency, "amount_minor": total}


def _total(orders: Sequence[StandingOrder]) -> str:
    return money_in_all((order.currency, order.amount_minor) for order in orders)
