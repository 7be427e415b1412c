"""Currency, IBAN and opening date of the customer's accounts."""

from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.facts import TOOLS, Facts, Request, counted


@TOOLS.register("account_details")
def look_up(request: Request, bank: Bank) -> Facts:
    accounts = bank.accounts(request.customer_id)
    details = [f"{a.name}, {a.currency}, IBAN {a.iban}, opened {a.opened}" for a in accounts]
    return Facts(
        f"Your account details: {'; '.join(details)}.",
        (
            counted(accounts, "account"),
            *(f"{a.name}: currency {a.currency}, IBAN {a.iban}, opened {a.opened}" for a in accounts),
        ),
        tuple(f"ledger:{account.account_id}" for account in accounts),
        tuple(account.iban for account in accounts),
    )
