"""The saved payees, to whom a transfer can go. Of their account numbers only the end is shown."""

from bankllm.assistant.bank.ledger import Bank
from bankllm.assistant.facts import TOOLS, Facts, Request


@TOOLS.register("payees")
def look_up(request: Request, bank: Bank) -> Facts:
    payees = bank.payees(request.customer_id)
    rows = [{"payee_id": one.payee_id, "name": one.name, "ending": one.ending, "saved": one.saved} for one in payees]
    names = [f"{one.name} (account ending {one.ending})" if one.ending else one.name for one in payees]
    text = f"Your saved payees: {'; '.join(names)}." if names else "You have no saved payees."
    return Facts(text, result={"rows": rows})
