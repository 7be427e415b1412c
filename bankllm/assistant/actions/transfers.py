"""Plans of `transfer` and `cancel_transfer`.

A transfer goes to a saved payee or to another account of the customer: a message's account numbers are masked before
anything reads it. A transfer for a later day is written to the table `scheduled`, and can be cancelled until it is due.
`ActionDesk.book_due` books it then. `cancel_transfer` also ends a direct debit, standing order or subscription.
"""

import re
from datetime import date, timedelta
from typing import Any, NamedTuple

from bankllm.assistant.actions.plans import (
    HELD,
    ActionRefused,
    Applied,
    Plan,
    Situation,
    Wanted,
    check_currency,
    choose,
    read_amount,
)
from bankllm.assistant.bank.backends.sqlite_bank import book
from bankllm.assistant.bank.ledger import ONCE, Account, Payee, format_money
from bankllm.assistant.bank.statement import day as written

DAILY_LIMIT_MINOR = 1_000_000
"""Of transfers to payees per customer and currency: £10,000.00; for the yen, which has no minor unit, ¥1,000,000."""
LATEST_DAYS = 366
"""How far ahead a transfer can be dated."""
APOSTROPHE = re.compile(r"['’]")
REFERENCE = re.compile(r"[A-Za-z0-9 .&/-]{1,18}")
"""References that banks pass on."""
SPENT_TODAY = """
    SELECT COALESCE(SUM(json_extract(arguments, '$.amount_minor')), 0) FROM actions
    WHERE customer_id = ? AND tool = 'transfer' AND state = 'booked' AND decided_at >= ?
        AND json_extract(arguments, '$.payee_id') IS NOT NULL AND json_extract(arguments, '$.currency') = ?"""
WAITING = """
    SELECT scheduled_id, amount_minor, accounts.currency, due, COALESCE(payees.name, own.name), scheduled.payee_id,
        (SELECT conversation_id FROM actions WHERE action_id = scheduled_id)
    FROM scheduled JOIN accounts USING (account_id) LEFT JOIN payees USING (payee_id)
    LEFT JOIN accounts AS own ON own.account_id = to_account_id
    WHERE scheduled.customer_id = ? AND status = 'waiting' AND due > ? ORDER BY due, scheduled_id"""

DUE = """
    SELECT scheduled_id, scheduled.customer_id, COALESCE(payees.name, own.name), due, json_object(
        'amount_minor', amount_minor, 'currency', accounts.currency, 'from_account_id', scheduled.account_id,
        CASE WHEN payee_id IS NULL THEN 'to_account_id' ELSE 'payee_id' END, COALESCE(payee_id, to_account_id),
        'reference', reference, 'date', :day)
    FROM scheduled JOIN accounts USING (account_id) LEFT JOIN payees USING (payee_id)
    LEFT JOIN accounts AS own ON own.account_id = to_account_id
    WHERE status = 'waiting' AND due <= :day ORDER BY due, scheduled_id"""
"""The scheduled transfers whose day has come, with the arguments of a transfer."""


class Scheduled(NamedTuple):
    """A transfer that waits for its day: a row of `WAITING`."""

    scheduled_id: str
    amount_minor: int
    currency: str
    date: str
    to: str
    payee_id: str | None
    conversation_id: str

    @property
    def label(self) -> str:
        return f"{format_money(self.amount_minor, self.currency)} to {self.to} on {written(self.date)}"


def plan_transfer(now: Situation, wanted: Wanted) -> Plan:
    if now.held and not wanted.get("to_account_id"):
        raise ActionRefused(HELD)
    accounts, amount = now.bank.accounts(now.customer_id), read_amount(wanted)
    target = _target(now, wanted, accounts)
    source = _source(wanted, accounts)
    check_currency(wanted, source.currency, f"Your {source.name}")
    if isinstance(target, Account) and target.account_id == source.account_id:
        raise ActionRefused("Both accounts are the same. Tell me another one.")
    if target.currency != source.currency:
        raise ActionRefused(
            f"{target.name} is in {target.currency} and your {source.name} in {source.currency}. I cannot exchange "
            "money."
        )
    day = _day(wanted, now.today)
    reference = wanted.get("reference") or ""
    if isinstance(reference, str):
        reference = APOSTROPHE.sub("", reference)  # shown as it is sent, for a yes
    if reference and not (isinstance(reference, str) and REFERENCE.fullmatch(reference)):
        raise ActionRefused("A reference has at most 18 letters, digits, spaces and . & / -.")
    money = format_money(amount, source.currency)
    _check_limits(now, source, target, amount, day)
    own = isinstance(target, Account)
    arguments: dict[str, Any] = {
        "amount_minor": amount,
        "currency": source.currency,
        "from_account_id": source.account_id,
        **({"to_account_id": target.account_id} if isinstance(target, Account) else {"payee_id": target.payee_id}),
        "date": day.isoformat(),
        **({"reference": reference} if reference else {}),
    }
    to = f"your {target.name}" if own else target.name
    when = f"today, {written(day)}" if day == now.today else f"on {written(day)}"
    noted = f", reference “{reference}”" if reference else ""
    text = f"Transfer {money} from your {source.label} to {to} ending {target.ending} {when}{noted}"

    def apply(action_id: str) -> Applied:
        if day > now.today:
            ids = (arguments.get("payee_id"), arguments.get("to_account_id"))
            now.db.execute(
                "INSERT INTO scheduled VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'waiting')",
                (action_id, now.customer_id, source.account_id, *ids, amount, day.isoformat(), reference),
            )
            return f"It will be sent on {written(day)}. You can cancel it until then.", None
        entry = book(
            now.db,
            booked=day.isoformat(),
            kind="own_transfer" if own else "transfer",
            description=f"{source.name} to {target.name}" if own else target.name,
            counterparty=None if own else target.name,
            category="own transfers" if own else "payments to people",
            reference=reference,
            postings={source.account_id: -amount, _other_side(now, target): amount},
        )
        left = format_money(source.available_minor - amount, source.currency)
        return f"Your {source.name} now has {left} available.", entry

    return Plan(arguments, text, apply)


def plan_cancel_transfer(now: Situation, wanted: Wanted) -> Plan:
    """The call may name `scheduled_id`, or `payee_id`, `amount_minor` and `date`, where several transfers wait.

    Otherwise it is the one that was scheduled in this conversation. With `order_id` it is what is paid each month.
    """
    if wanted.get("order_id"):
        return _plan_end(now, wanted)
    rows = now.db.execute(WAITING, (now.customer_id, now.today.isoformat()))
    waiting = [Scheduled(*row) for row in rows]
    named = {name: wanted[name] for name in Scheduled._fields if wanted.get(name) is not None}
    here = [one for one in waiting if one.conversation_id == now.conversation_id]
    fitting = (
        here if len(here) == 1 and not named else [one for one in waiting if named.items() <= one._asdict().items()]
    )
    if not waiting:
        raise ActionRefused("No transfer of yours waits to be sent, so there is nothing to cancel.")
    if not fitting:
        others = "; ".join(one.label for one in waiting)
        raise ActionRefused(f"No such transfer waits to be sent. What was sent cannot be undone. Waiting: {others}.")
    chosen = choose(fitting, None, "transfer", "scheduled_id", "label")

    def apply(action_id: str) -> Applied:
        now.db.execute(
            "UPDATE scheduled SET status = 'cancelled' WHERE scheduled_id = ? AND status = 'waiting'",
            (chosen.scheduled_id,),
        )
        return "It will not be sent.", None

    return Plan({"scheduled_id": chosen.scheduled_id}, f"Cancel the transfer of {chosen.label}", apply)


def _plan_end(now: Situation, wanted: Wanted) -> Plan:
    """Plan the end of a standing order, direct debit or subscription. A contract behind it goes on."""
    orders = [one for one in now.bank.standing_orders(now.customer_id) if one.kind != ONCE]
    chosen = choose(orders, wanted["order_id"], "regular payment", "order_id")
    kind, money = chosen.kind.replace("_", " "), format_money(chosen.amount_minor, chosen.currency)
    (account,) = (one for one in now.bank.accounts(now.customer_id) if one.account_id == chosen.account_id)
    paid = f"{money} a month from your {account.label}, next due on {written(chosen.next_due)}"
    text = f"Cancel the {kind} to {chosen.name.removeprefix('To ')}, {paid}"

    def apply(action_id: str) -> Applied:
        ended = "UPDATE standing_orders SET ended = ? WHERE order_id = ?"
        now.db.execute(ended, (now.today.isoformat(), chosen.order_id))
        contract = f" A contract with {chosen.name} does not end by this, so tell them too."
        return f"No more is paid by it.{contract if chosen.kind != 'standing_order' else ''}", None

    return Plan({"order_id": chosen.order_id}, text, apply)


def _target(now: Situation, wanted: Wanted, accounts: tuple[Account, ...]) -> Account | Payee:
    if own := wanted.get("to_account_id"):
        return choose(accounts, own, "account of yours", "account_id")
    payees = now.bank.payees(now.customer_id)
    if not wanted.get("payee_id"):
        known = ", ".join(payee.name for payee in payees) or "none"
        raise ActionRefused(f"I can transfer only to a payee that you have saved. Your saved payees: {known}.")
    return choose(payees, wanted["payee_id"], "saved payee", "payee_id")


def _source(wanted: Wanted, accounts: tuple[Account, ...]) -> Account:
    """The named account; without a name the only current account, or the only account."""
    able = [account for account in accounts if account.kind != "credit"]
    given = wanted.get("from_account_id")
    if given is None:
        others = [account for account in able if account.account_id != wanted.get("to_account_id")]
        able = [account for account in others if account.kind == "current"] or others
    return choose(able, given, "account", "account_id")


def _day(wanted: Wanted, today: date) -> date:
    given = wanted.get("date")
    try:
        day = date.fromisoformat(given) if given else today
    except (TypeError, ValueError):
        raise ActionRefused("I could not read the date. Write it like 3 December.") from None
    if day < today:
        raise ActionRefused(f"{written(day)} is in the past. Tell me a day from today on.")
    if day > today + timedelta(LATEST_DAYS):
        raise ActionRefused(f"{written(day)} is more than a year away. Tell me an earlier day.")
    return day


def _check_limits(now: Situation, source: Account, target: Account | Payee, amount: int, day: date) -> None:
    if isinstance(target, Payee):
        (spent,) = now.db.execute(SPENT_TODAY, (now.customer_id, now.midnight, source.currency)).fetchone()
        if spent + amount > DAILY_LIMIT_MINOR:
            limit, left = (
                format_money(max(0, m), source.currency) for m in (DAILY_LIMIT_MINOR, DAILY_LIMIT_MINOR - spent)
            )
            raise ActionRefused(f"You can transfer {limit} a day, and {left} of it is left today.")
    if day == now.today and amount > source.available_minor:
        left = format_money(source.available_minor, source.currency)
        raise ActionRefused(f"Your {source.name} has {left} available, which is not enough.")


def _other_side(now: Situation, target: Account | Payee) -> str:
    """The account that gets the money: for a payee at another bank, the internal account of that currency."""
    if isinstance(target, Account):
        return target.account_id
    internal = "SELECT account_id FROM accounts WHERE kind = 'internal' AND currency = ? ORDER BY account_id"
    row = now.db.execute(internal, (target.currency,)).fetchone()
    if row is None:
        raise ActionRefused(f"This bank cannot send {target.currency}.")
    return str(row[0])
