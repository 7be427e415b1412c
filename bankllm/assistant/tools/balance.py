"""The balances of the customer's accounts."""

from bankllm.assistant.bank.ledger import Bank, format_money
from bankllm.assistant.facts import TOOLS, Facts, Request, counted


@TOOLS.register("balance")
def look_up(request: Request, bank: Bank) -> Facts:
    accounts = bank.accounts(request.customer_id)
    amounts = [(account.name, format_money(account.balance_minor, account.currency)) for account in accounts]
    verb = "balance is" if len(amounts) == 1 else "balances are"
    return Facts(
        f"Your account {verb}: {'; '.join(f'{name} {amount}' for name, amount in amounts)}.",
        (counted(accounts, "account"), *(f"{name}: balance {amount}" for name, amount in amounts)),
        tuple(f"ledger:{account.account_id}" for account in accounts),
    )
