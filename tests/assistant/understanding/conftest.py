"""What of a bank belongs to one customer, and the day from which relative dates count."""

from datetime import date

import pytest

from bankllm.assistant.bank.ledger import Account, Card, Payee
from bankllm.assistant.understanding.customer import CustomerView


@pytest.fixture(scope="session")
def today() -> date:
    """A Sunday."""
    return date(2026, 11, 29)


@pytest.fixture(scope="session")
def customer() -> CustomerView:
    accounts = (("A1", "Current account", "current", "GBP"), ("A2", "Savings account", "savings", "GBP"))
    more = (("A3", "Joint account", "joint", "GBP"), ("A4", "EUR travel account", "travel", "EUR"))
    return CustomerView(
        accounts=[
            Account(id_, name, currency, "", "2020-01-01", 0, kind, account_number=f"1234567{id_[1]}")
            for id_, name, kind, currency in (*accounts, *more)
        ],
        cards=[
            Card("C1", "A1", "debit", "Visa Debit", "4242", "active", "2024-01-01", "2028-01", 50000, "GBP"),
            Card("C2", "A3", "debit", "Mastercard Debit", "1111", "frozen", "2024-01-01", "2028-01", 50000, "GBP"),
        ],
        payees=[
            Payee(f"P{number}", name, "GBP", "20-00-00", f"8765432{number}", "2024-01-01")
            for number, name in enumerate(["Mum", "Anna Smith", "Anna Müller", "Siobhan O'Leary", "Raj", "Raj"])
        ],
        merchants=["Tesco", "Tesco Express", "Nando's", "Octopus Energy", "Marks & Spencer", "Greggs", "Uber Eats",
                   "Mum", "Disney+", "Café Zoë", "Wetherspoon", "Leeds City Council", "Pret North", "Pret South"],
        categories=["groceries", "eating out", "fuel", "pharmacy", "insurance", "council tax", "salary", "pubs"],
        payday=date(2026, 11, 25),
    )  # fmt: skip
