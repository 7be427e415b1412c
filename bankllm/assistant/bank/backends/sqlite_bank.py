"""`sqlite:PATH`: a ledger in an SQLite file with the tables of `data/demo_ledger.sql`. It is only read."""

import sqlite3
import threading
from pathlib import Path
from typing import Any

from bankllm.assistant.bank.ledger import BANKS, Account, Transaction, UnknownCustomer
from bankllm.errors import LedgerError

ACCOUNTS = (
    "SELECT account_id, name, currency, iban, opened, COALESCE(SUM(amount_minor), 0) FROM accounts "
    "LEFT JOIN transactions USING (account_id) WHERE customer_id = ? GROUP BY account_id ORDER BY account_id"
)
TRANSACTIONS = (
    "SELECT account_id, booked, amount_minor, currency, description FROM transactions "
    "JOIN accounts USING (account_id) WHERE customer_id = ? ORDER BY booked DESC, transaction_id DESC LIMIT ?"
)


class SQLiteBank:
    """A `Bank` in SQLite. A balance is the sum of the account's transactions."""

    def __init__(self, connection: sqlite3.Connection, customers: str) -> None:
        """`customers` is a sentence for the error about an unknown customer."""
        self._connection, self._customers, self._lock = connection, customers, threading.Lock()

    def require(self, customer_id: str) -> None:
        if not self._rows("SELECT 1 FROM customers WHERE customer_id = ?", customer_id):
            raise UnknownCustomer(f"There is no customer with this id. {self._customers}")

    def accounts(self, customer_id: str) -> tuple[Account, ...]:
        self.require(customer_id)
        return tuple(Account(*row) for row in self._rows(ACCOUNTS, customer_id))

    def transactions(self, customer_id: str, limit: int = 5) -> tuple[Transaction, ...]:
        self.require(customer_id)
        return tuple(Transaction(*row) for row in self._rows(TRANSACTIONS, customer_id, limit))

    def close(self) -> None:
        self._connection.close()

    def _rows(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(f"The ledger cannot be read ({error}). Restore its file, and restart.") from error


@BANKS.register("sqlite")
def open_sqlite(path: str) -> SQLiteBank:
    try:
        connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
        bank = SQLiteBank(connection, "Send the id of a customer of the ledger.")
        bank.require(*connection.execute("SELECT customer_id FROM customers").fetchone())
        connection.execute(ACCOUNTS, ("",))
        connection.execute(TRANSACTIONS, ("", 0))
    except (sqlite3.Error, TypeError) as error:  # a TypeError, because there is no row
        raise LedgerError(
            f"The ledger at {path!r} cannot be opened ({error}). Expected an SQLite file with the tables of "
            "bankllm/data/demo_ledger.sql and at least one customer. Correct BANKLLM_LEDGER."
        ) from error
    return bank
