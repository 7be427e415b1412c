"""The balances of the customer's accounts, of one account, or at the end of one day."""

from bankllm.assistant.bank.ledger import Account, Bank, format_money
from bankllm.assistant.bank.statement import day, named
from bankllm.assistant.facts import TOOLS, Facts, Request


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
    subject = "Your account balance" if len(amounts) == 1 else "Your account balances"
    verb = ("was" if on else "is") if len(amounts) == 1 else ("were" if on else "are")
    dated = f" on {day(on)}" if on else ""
    lines = [
        f"{named(a)}: balance{dated} {format_money(a.balance_minor, a.currency)}"
        + ("" if on else f", available {format_money(a.available_minor, a.currency)}")
        for a in accounts
    ]
    rows = [
        {
            "account_id": a.account_id,
            "name": a.name,
            "ending": a.ending,
            "currency": a.currency,
            "balance_minor": a.balance_minor,
        }
        | ({} if on else {"available_minor": a.available_minor, "overdraft_minor": a.overdraft_minor})
        for a in accounts
    ]
    return Facts(
        f"{subject}{when} {verb}: {'; '.join(amounts)}.", tuple(lines), sources, result={"rows": rows, "date": on}
    )


def _amount(account: Account, on: str | None) -> str:
    """The balance, and what is available where that is another amount."""
    amount = format_money(account.balance_minor, account.currency)
    if on or account.available_minor == account.balance_minor:
        return amount
    limit = "credit limit" if account.kind == "credit" else "overdraft"
    notes = []
    if account.overdraft_minor:
        notes.append(f"with your {limit} of {format_money(account.overdraft_minor, account.currency)}")
    if account.pending_minor:
        notes.append(f"after {format_money(-account.pending_minor, account.currency)} pending")
    return f"{amount} (available: {format_money(account.available_minor, account.currency)} {', '.join(notes)})"
