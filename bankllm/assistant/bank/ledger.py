"""The interface to a bank's ledger, and its registry: `open_bank("sqlite:ledger.sqlite")` gives a `Bank`.

Each module in `backends/` registers one kind of bank by the scheme of its address (`BANKLLM_LEDGER`). Amounts are
integers in minor units (pence, cents), dates are ISO 8601.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bankllm.errors import BankLLMError
from bankllm.settings import Settings
from bankllm.util.registry import Registry

SYMBOLS = {"EUR": "€", "GBP": "£", "JPY": "¥", "USD": "$"}
MINOR_DIGITS = {"JPY": 0}


class UnknownCustomer(BankLLMError):
    """The ledger has no customer with this id."""


@dataclass(frozen=True)
class Account:
    """An account of a customer. Available are `balance_minor`, `pending_minor` and `overdraft_minor` together."""

    account_id: str
    name: str
    """Such as `Current account`."""
    currency: str
    iban: str
    opened: str
    """ISO date."""
    balance_minor: int
    """The sum of all booked transactions."""
    kind: str = "current"
    """`current`, `savings`, `joint`, `travel` or `credit`."""
    sort_code: str = ""
    account_number: str = ""
    overdraft_minor: int = 0
    """How far the balance may go below zero: the overdraft, or the credit limit of a credit card."""
    pending_minor: int = 0
    """The sum of the pending transactions, not positive."""
    holders: int = 1

    @property
    def available_minor(self) -> int:
        return self.balance_minor + self.pending_minor + self.overdraft_minor

    @property
    def ending(self) -> str:
        """The last four digits of the account number."""
        return (self.account_number or self.iban)[-4:]

    @property
    def label(self) -> str:
        """`Savings account ending 7730`."""
        return f"{self.name} ending {self.ending}"


@dataclass(frozen=True)
class Transaction:
    account_id: str
    booked: str
    """ISO date; of a pending transaction the day on which it was authorised."""
    amount_minor: int
    """Positive for money in, negative for money out."""
    currency: str
    description: str
    counterparty: str | None = None
    """The merchant, payee or employer; None for cash, fees, interest and transfers between own accounts."""
    category: str = "other"
    kind: str = "card"
    """`card`, `direct_debit`, `standing_order`, `transfer`, `own_transfer`, `cash`, `credit`, `interest`, `fee` or
    `refund`."""
    status: str = "booked"
    """`booked` or `pending`."""
    reference: str = ""
    original_currency: str | None = None
    """Of a payment in a foreign currency."""
    original_minor: int | None = None
    rate: float | None = None
    """Units of the account's currency for one unit of the original currency."""


@dataclass(frozen=True)
class TransactionQuery:
    """Which transactions are meant; None leaves a condition out. The opening balance is no transaction."""

    merchant: str | None = None
    """A counterparty as the ledger spells it, in any case."""
    category: str | None = None
    """A category, or a group of categories."""
    date_from: str | None = None
    date_to: str | None = None
    """The last day, included."""
    account_id: str | None = None
    direction: Literal["in", "out"] | None = None
    minimum_minor: int | None = None
    """Of the amount without its sign."""
    maximum_minor: int | None = None
    status: Literal["booked", "pending"] | None = None
    order: Literal["newest", "oldest", "largest", "smallest"] = "newest"
    limit: int | None = None
    own_transfers: bool = True
    """Whether transfers between accounts of the customer count."""
    kind: str | None = None
    """See `Transaction.kind`."""
    without: Sequence[Mapping[str, Any]] = ()
    """What `statement.Statement` leaves out: conditions of one argument each. Banks ignore it."""
    described: str | None = None
    """Words of the description, for `statement.Statement`. Banks ignore it."""
    foreign: str | None = None
    """ISO code of the currency in which was paid, or `ABROAD`, for `statement.Statement`. Banks ignore it."""


ABROAD = "abroad"
"""`TransactionQuery.foreign` of payments in any other currency than the account's."""
LATEST = TransactionQuery(limit=5)


@dataclass(frozen=True)
class Card:
    card_id: str
    account_id: str
    kind: str
    """`debit` or `credit`."""
    name: str
    """Such as `Visa Debit`."""
    last4: str
    status: str
    """`active`, `frozen`, `lost`, `stolen`, `ordered` or `expired`."""
    since: str
    """ISO date of the status."""
    expires: str
    """`YYYY-MM`; the card works until the end of that month."""
    limit_minor: int
    """Spending limit per day."""
    currency: str

    @property
    def label(self) -> str:
        """`Visa Debit ending 1234`."""
        return f"{self.name} ending {self.last4}"


@dataclass(frozen=True)
class Payee:
    payee_id: str
    name: str
    currency: str
    sort_code: str
    account_number: str
    saved: str
    """ISO date."""

    @property
    def ending(self) -> str:
        """The last four digits of the account number."""
        return self.account_number[-4:]


ONCE = "scheduled_transfer"
"""Kind of a `StandingOrder` that does not repeat."""


@dataclass(frozen=True)
class StandingOrder:
    """A payment that repeats every month, or a transfer that waits for its day."""

    order_id: str
    account_id: str
    kind: str
    """`standing_order`, `direct_debit`, `subscription`, or `scheduled_transfer`, which does not repeat."""
    name: str
    amount_minor: int
    currency: str
    day: int
    """Of the month; in a shorter month the last day."""
    next_due: str
    reference: str = ""


class Bank(Protocol):
    """Read access to a ledger; thread-safe.

    A call raises `UnknownCustomer` if there is no customer with this id, `LedgerError` if the ledger cannot be read.
    """

    def require(self, customer_id: str) -> None:
        """Return if the bank has this customer."""

    def accounts(self, customer_id: str, on: str | None = None) -> tuple[Account, ...]:
        """Return the accounts that the customer holds with their balances, of today or at the end of the day `on`.

        An account without a record up to that day is left out.
        """

    def transactions(self, customer_id: str, query: TransactionQuery = LATEST) -> tuple[Transaction, ...]: ...

    def cards(self, customer_id: str) -> tuple[Card, ...]: ...

    def payees(self, customer_id: str) -> tuple[Payee, ...]: ...

    def standing_orders(self, customer_id: str) -> tuple[StandingOrder, ...]:
        """Return standing orders, direct debits and subscriptions, by the day on which they are due next."""

    def merchants(self, customer_id: str) -> tuple[str, ...]:
        """Return the names of all counterparties of the customer's transactions, the most frequent first."""

    def categories(self) -> tuple[str, ...]:
        """Return the names of all categories and groups of categories."""

    def close(self) -> None: ...


BANKS: Registry[Callable[[str, Settings | None], Bank]] = Registry(
    "bank", "bankllm.banks", "bankllm.assistant.bank.backends"
)
"""Scheme → function that opens the bank at the rest of the address."""


def open_bank(address: str = "demo:", settings: Settings | None = None) -> Bank:
    """Open the bank at `SCHEME:REST`. Without settings, `demo:` is in memory; with settings, a file beside their store.

    Raises `UsageError` for an unknown scheme, `LedgerError` if the ledger cannot be read.
    """
    scheme, _, rest = address.partition(":")
    return BANKS.get(scheme)(rest, settings)


def format_money(amount_minor: int, currency: str) -> str:
    """Format an amount in minor units: `-£1,204.50`, `¥12,000`; other currencies as `1,204.50 CHF`."""
    digits = MINOR_DIGITS.get(currency, 2)
    major, minor = divmod(abs(amount_minor), 10**digits)
    number = f"{major:,}" + (f".{minor:0{digits}}" if digits else "")
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{SYMBOLS[currency]}{number}" if currency in SYMBOLS else f"{sign}{number} {currency}"
