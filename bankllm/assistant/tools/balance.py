"""The balances of the customer's accounts, of one account, or at the end of one day."""

import re

from bankllm.assistant.bank.ledger import Account, Bank, format_money
from bankllm.assistant.bank.statement import TOGETHER, day, money_in_all
from bankllm.assistant.facts import TOOLS, Facts, Request

SHOWN = ("account_id", "name", "ending", "currency", "balance_minor", "available_minor", "overdraft_minor")

OVERDRAFT = re.compile(r"\b(?:overdraft|overdrawn|credit limit)\b", re.IGNORECASE)


@TOOLS.register("balance")
def look_up(request: Request, bank: Bank) -> Facts:
    on, wanted = (request.call.arguments.get(name) for name in ("date", "account_id"))
    own = [account for account in bank.accounts(request.customer_id) if wanted in (None, account.account_id)]
    held = {account.account_id: account for account in bank.accounts(request.customer_id, on)} if on else {}
    accounts = [held[account.account_id] for account in own if account.account_id in held] if on else own
    sources = tuple(f"ledger:{account.account_id}" for account in own)
    when = f" at the end of {day(on)}" if on else ""
    if not accounts:
        names = " or ".join(f"your {account.name}" for account in own)
        text = f"I have no balance of {names}{when}: the records begin later."
        return Facts(text, (text,), sources, result={"rows": [], "date": on})
    amounts = [f"{account.name} {_amount(account, on)}" for account in accounts]
    one, dated = len(accounts) == 1, f" on {day(on)}" if on else ""
    verb = ("was" if on else "is") if one else ("were" if on else "are")
    lines = [
        f"{a.label}: balance{dated} {format_money(a.balance_minor, a.currency)}"
        + ("" if on else f", available {format_money(a.available_minor, a.currency)}")
        for a in accounts
    ]
    shown = SHOWN[:5] if on else SHOWN
    rows = [{name: getattr(account, name) for name in shown} for account in accounts]
    text = f"Your account balance{'' if one else 's'}{when} {verb}: {'; '.join(amounts)}."
    if not one and TOGETHER.search(request.message):
        total = f"Together that is {money_in_all((account.currency, account.balance_minor) for account in accounts)}."
        text, lines = f"{text} {total}", [*lines, total]
    if OVERDRAFT.search(request.message) and not on:
        limits = [_limit(a) for a in accounts if a.overdraft_minor] or ["You have no arranged overdraft."]
        text, lines = " ".join([text, *limits]), [*lines, *limits]
    return Facts(text, tuple(lines), sources, result={"rows": rows, "date": on})


def _limit(account: Account) -> str:
    limit, used = (format_money(n, account.currency) for n in (account.overdraft_minor, max(0, -account.balance_minor)))
    name = "credit" if account.kind == "credit" else "overdraft"
    return f"The {name} limit of your {account.name} is {limit}, of which you use {used}."


def _amount(account: Account, on: str | None) -> str:
    """The balance, and what is available where that is another amount."""
    amount = format_money(account.balance_minor, account.currency)
    if on or account.available_minor == account.balance_minor:
        return amount
    notes = []
    if account.overdraft_minor:
        notes.append("with your credit limit" if account.kind == "credit" else "with your overdraft")
    notes += ["after pending payments"] if account.pending_minor else []
    return f"{amount} ({format_money(account.available_minor, account.currency)} available {', '.join(notes)})"
