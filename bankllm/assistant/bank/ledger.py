"""The interface to a bank's ledger, and its registry: `open_bank("sqlite:ledger.sqlite")` gives a `Bank`.

Each module in `backends/` registers one kind of bank by the scheme of its address (`BANKLLM_LEDGER`). Amounts are
integers in minor units (pence, cents).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bankllm.errors import BankLLMError
from bankllm.util.registry import Registry

SYMBOLS = {"EUR": "€", "GBP": "£", "JPY": "¥", "USD": "$"}
MINOR_DIGITS = {"JPY": 0}


class UnknownCustomer(BankLLMError):
    """The ledger has no customer with this id."""


@dataclass(frozen=True)
class Account:
    account_id: str
    name: str
    currency: str
    iban: str
    opened: str
    """ISO date."""
    balance_minor: int


@dataclass(frozen=True)
class Transaction:
    account_id: str
    booked: str
    """ISO date."""
    amount_minor: int
    """Positive for money in, negative for money out."""
    currency: str
    description: str


class Bank(Protocol):
    """Read access to a ledger; thread-safe.

    A call raises `UnknownCustomer` if there is no customer with this id, `LedgerError` if the ledger cannot be read.
    """

    def require(self, customer_id: str) -> None:
        """Return if the bank has this customer."""

    def accounts(self, customer_id: str) -> tuple[Account, ...]: ...

    def transactions(self, customer_id: str, limit: int = 5) -> tuple[Transaction, ...]:
        """Return the customer's latest transactions of all accounts, newest first."""

    def close(self) -> None: ...


BANKS: Registry[Callable[[str], Bank]] = Registry("bank", "bankllm.banks", "bankllm.assistant.bank.backends")
"""Scheme → function that opens the bank at the rest of the address."""


def open_bank(address: str = "demo:") -> Bank:
    """Open the bank at `SCHEME:REST`. Raises `UsageError` for an unknown scheme, `LedgerError` if it cannot be read."""
    scheme, _, rest = address.partition(":")
    return BANKS.get(scheme)(rest)


def format_money(amount_minor: int, currency: str) -> str:
    """Format an amount in minor units: `-£1,204.50`, `¥12,000`; other currencies as `1,204.50 CHF`."""
    digits = MINOR_DIGITS.get(currency, 2)
    major, minor = divmod(abs(amount_minor), 10**digits)
    number = f"{major:,}" + (f".{minor:0{digits}}" if digits else "")
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{SYMBOLS[currency]}{number}" if currency in SYMBOLS else f"{sign}{number} {currency}"
