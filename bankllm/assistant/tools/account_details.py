"""Numbers, opening date and holders of the customer's accounts. No language model sees account numbers."""

from bankllm.assistant.bank.ledger import Account, Bank
from bankllm.assistant.bank.statement import day
from bankllm.assistant.facts import TOOLS, Facts, Request

SHOWN = ("account_id", "kind", "name", "currency", "sort_code", "account_number", "iban", "opened", "holders")


@TOOLS.register("account_details")
def look_up(request: Request, bank: Bank) -> Facts:
    accounts = bank.accounts(request.customer_id)
    result = {"rows": [{name: getattr(account, name) for name in SHOWN} for account in accounts]}
    sources = tuple(f"ledger:{account.account_id}" for account in accounts)
    return Facts(f"Your account details: {'; '.join(map(_details, accounts))}.", (), sources, result=result)


def _details(account: Account) -> str:
    parts = [f"{account.name} in {account.currency}"]
    parts += [f"sort code {account.sort_code}"] if account.sort_code else []
    parts += [f"account number {account.account_number}"] if account.account_number else []
    parts += [f"IBAN {account.iban}", f"opened {day(account.opened)}"]
    parts += [f"{account.holders} holders"] if account.holders > 1 else []
    return ", ".join(parts)
