"""The demo bank's ledger: customers, accounts and transactions in SQLite, with the same data on every machine.

Amounts are integers in minor units (pence, cents). A balance is computed as the sum of the account's transactions, so
a reply can only state amounts that the ledger contains.
"""

import random
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from bankllm.errors import BankLLMError, StoreError

SCHEMA = """
CREATE TABLE customers (customer_id TEXT PRIMARY KEY);
CREATE TABLE accounts (
    account_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL REFERENCES customers, name TEXT NOT NULL,
    currency TEXT NOT NULL, iban TEXT NOT NULL, opened TEXT NOT NULL);
CREATE TABLE transactions (
    transaction_id INTEGER PRIMARY KEY, account_id TEXT NOT NULL REFERENCES accounts, booked TEXT NOT NULL,
    amount_minor INTEGER NOT NULL, description TEXT NOT NULL);
CREATE INDEX accounts_by_customer ON accounts (customer_id);
CREATE INDEX transactions_by_account ON transactions (account_id, booked);
"""

CUSTOMERS = tuple(f"CUST{number:03}" for number in range(1, 11))
CURRENCIES = ("GBP", "EUR", "GBP", "USD", "GBP")
"""Currencies of the customers' everyday accounts, assigned in turn."""
LAST_DAY = date(2026, 11, 20)
PURCHASES = (  # description, minimum and maximum amount in major units
    ("Corner Grocer", 8, 90),
    ("City Transport", 2, 12),
    ("Harbour Coffee", 3, 9),
    ("Electric Company", 40, 110),
    ("Paper & Ink Books", 7, 45),
    ("Green Pharmacy", 4, 30),
    ("Streaming Club", 10, 18),
    ("Cash withdrawal", 20, 120),
)
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


class Ledger:
    """Read access to the ledger; thread-safe. Without a path the demo data is created in memory."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the ledger at `path`; a new file is filled with the demo data. Raises `StoreError`."""
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(path or ":memory:", check_same_thread=False, isolation_level=None)
            try:
                _fill_if_new(self._connection)
            except sqlite3.Error:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            raise StoreError(
                f"The ledger at {path} cannot be opened ({error}). Expected a ledger created by bankllm, or a path for "
                "a new file in an existing, writable folder."
            ) from error

    def require(self, customer_id: str) -> None:
        """Raises `UnknownCustomer` if there is no customer with this id, `StoreError` if the ledger cannot be read."""
        if not self._rows("SELECT 1 FROM customers WHERE customer_id = ?", customer_id):
            raise UnknownCustomer(
                f"There is no customer with this id. The demo customers are {CUSTOMERS[0]} to {CUSTOMERS[-1]}."
            )

    def accounts(self, customer_id: str) -> tuple[Account, ...]:
        """The customer's accounts with their balances. Raises `UnknownCustomer` or `StoreError`."""
        self.require(customer_id)
        rows = self._rows(
            "SELECT account_id, name, currency, iban, opened, SUM(amount_minor) FROM accounts "
            "JOIN transactions USING (account_id) WHERE customer_id = ? GROUP BY account_id ORDER BY account_id",
            customer_id,
        )
        return tuple(Account(*row) for row in rows)

    def transactions(self, customer_id: str, limit: int = 5) -> tuple[Transaction, ...]:
        """The customer's latest transactions of all accounts, newest first. Raises as `accounts` does."""
        self.require(customer_id)
        rows = self._rows(
            "SELECT account_id, booked, amount_minor, currency, description FROM transactions "
            "JOIN accounts USING (account_id) WHERE customer_id = ? ORDER BY booked DESC, transaction_id DESC LIMIT ?",
            customer_id,
            limit,
        )
        return tuple(Transaction(*row) for row in rows)

    def close(self) -> None:
        self._connection.close()

    def _rows(self, sql: str, *parameters: object) -> list[tuple]:
        try:
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreError(
                f"The ledger cannot be read ({error}). Restore its file, or remove it and restart."
            ) from error


def format_money(amount_minor: int, currency: str) -> str:
    """Format an amount in minor units: `-£1,204.50`, `¥12,000`; other currencies as `1,204.50 CHF`."""
    digits = MINOR_DIGITS.get(currency, 2)
    major, minor = divmod(abs(amount_minor), 10**digits)
    number = f"{major:,}" + (f".{minor:0{digits}}" if digits else "")
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{SYMBOLS[currency]}{number}" if currency in SYMBOLS else f"{sign}{number} {currency}"


def _fill_if_new(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")  # two processes may open the same new file at the same time
    if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0:
        for statement in filter(str.strip, SCHEMA.split(";")):
            connection.execute(statement)
        for number, customer_id in enumerate(CUSTOMERS, start=1):
            connection.execute("INSERT INTO customers VALUES (?)", (customer_id,))
            _fill_customer(connection, number, customer_id)
    else:
        connection.execute(
            "SELECT 1 FROM customers, accounts, transactions LIMIT 1"
        )  # raises for a file of another program
    connection.execute("COMMIT")


def _fill_customer(connection: sqlite3.Connection, number: int, customer_id: str) -> None:
    # Python guarantees that random() gives the same values for a seed in every version; the other methods may change.
    rng = random.Random(number)
    for position, (name, currency) in enumerate(_demo_accounts(number), start=1):
        account_id = f"ACC{number:03}{position:02}"
        iban = _demo_iban(number, position)
        connection.execute(
            "INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?)",
            (account_id, customer_id, name, currency, iban, f"{2016 + number}-03-{10 + position}"),
        )
        connection.executemany(
            "INSERT INTO transactions (account_id, booked, amount_minor, description) VALUES (?, ?, ?, ?)",
            [(account_id, *row) for row in _demo_transactions(name, currency, rng)],
        )


def _demo_accounts(number: int) -> Iterator[tuple[str, str]]:
    currency = CURRENCIES[(number - 1) % len(CURRENCIES)]
    yield "Everyday", currency
    if number % 2:
        yield "Savings", currency
    if number == len(CUSTOMERS):
        yield "Travel", "JPY"


def _demo_iban(number: int, position: int) -> str:
    """A British IBAN of the fictitious bank DEMO, with valid check digits (ISO 13616, mod 97)."""
    bban = f"DEMO{100000 + number:06}{10000000 + 100 * number + position:08}"
    digits = "".join(str(int(character, 36)) for character in f"{bban}GB00")
    return f"GB{98 - int(digits) % 97:02}{bban}"


def _demo_transactions(name: str, currency: str, rng: random.Random) -> Iterator[tuple[str, int, str]]:
    """Yield rows (booking date, amount in minor units, description) of sixty days, oldest first."""
    # One yen is worth about one penny, so yen amounts use the same numbers.
    first = LAST_DAY - timedelta(days=60)
    yield first.isoformat(), 100_000 + int(rng.random() * 400_000), "Opening balance"
    if name == "Savings":
        yield (LAST_DAY - timedelta(days=20)).isoformat(), 100 + int(rng.random() * 900), "Interest"
        return
    for day in range(1, 61):
        booked = (first + timedelta(days=day)).isoformat()
        if name == "Everyday" and day in (10, 40):
            yield booked, 210_000, "Salary"
        elif rng.random() < 0.5:
            description, minimum, maximum = PURCHASES[int(rng.random() * len(PURCHASES))]
            yield booked, -int(100 * (minimum + rng.random() * (maximum - minimum))), description
