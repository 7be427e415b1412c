"""`sqlite:PATH`: a ledger in one SQLite file with the schema `data/ledger.sql`; `writing` and `book` add to it.

The file has a rollback journal, so that a copy of the file is a copy of the ledger. Several processes may share it.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from bankllm.assistant.bank.ledger import (
    BANKS,
    LATEST,
    Account,
    Card,
    Payee,
    StandingOrder,
    Transaction,
    TransactionQuery,
    UnknownCustomer,
)
from bankllm.errors import LedgerError, UsageError
from bankllm.settings import Settings
from bankllm.util.sqlite import advice, run_script, transaction

APPLICATION_ID = 0x424C4547
"""Value of `PRAGMA application_id` in the header of a ledger's file."""
SCHEMA_VERSION = 2
BUSY_TIMEOUT_S, CREATION_S = 5.0, 60
"""Maximum time in seconds that a call waits for other processes that use the file, and that create it."""

MAX_MINOR = 2**63 - 1
"""SQLite's largest integer."""
OWN = "account_id IN (SELECT account_id FROM holders WHERE customer_id = :customer)"
ACCOUNTS = f"""
    SELECT account_id, name, currency, iban, opened,
        (SELECT COALESCE(SUM(amount_minor), 0) FROM postings p
            WHERE p.account_id = a.account_id AND (:day IS NULL OR booked <= :day)),
        kind, sort_code, account_number, overdraft_minor,
        (SELECT COALESCE(SUM(amount_minor), 0) FROM pending p WHERE p.account_id = a.account_id AND :day IS NULL),
        (SELECT COUNT(*) FROM holders h WHERE h.account_id = a.account_id)
    FROM accounts a WHERE {OWN} AND (:day IS NULL OR EXISTS (
        SELECT 1 FROM postings p WHERE p.account_id = a.account_id AND booked <= :day)) ORDER BY account_id"""
COLUMNS = ", ".join(field.name for field in fields(Transaction))
REGULAR_AND_SCHEDULED = """(
    SELECT * FROM customer_standing_orders
    UNION ALL
    SELECT s.customer_id, scheduled_id, s.account_id, 'scheduled_transfer', COALESCE(payees.name, own.name),
        amount_minor, a.currency, CAST(strftime('%d', due) AS INTEGER), due, reference
    FROM scheduled s JOIN accounts a USING (account_id) LEFT JOIN payees USING (payee_id)
        LEFT JOIN accounts own ON own.account_id = to_account_id
    WHERE s.status = 'waiting')"""
Row = TypeVar("Row", Card, Payee, StandingOrder)
ORDERS = {
    "newest": "booked DESC, number DESC",
    "oldest": "booked, number",
    "largest": "ABS(amount_minor) DESC, booked DESC, number DESC",
    "smallest": "ABS(amount_minor), booked DESC, number DESC",
}
CONDITIONS = {
    "merchant": "counterparty = :merchant COLLATE NOCASE",
    "category": "category IN (SELECT name FROM categories WHERE :category COLLATE NOCASE IN (name, parent))",
    "date_from": "booked >= :date_from",
    "date_to": "booked <= :date_to",
    "account_id": "account_id = :account_id",
    "kind": "kind = :kind",
    "status": "status = :status",
    "direction": "(amount_minor > 0) = (:direction = 'in')",
    "own_transfers": "(:own_transfers OR kind <> 'own_transfer')",
    "minimum_minor": "ABS(amount_minor) >= :minimum_minor",
    "maximum_minor": "ABS(amount_minor) <= :maximum_minor",
}


class SQLiteBank:
    """A `Bank` in SQLite."""

    customers = "Send the id of a customer of the ledger."
    """A sentence for the error about an unknown customer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db, self._lock = connection, threading.RLock()
        connection.isolation_level = None
        with ledger_errors():
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA synchronous = FULL")

    def require(self, customer_id: str) -> None:
        if not self._rows("SELECT 1 FROM customers WHERE customer_id = ?", (customer_id,)):
            raise UnknownCustomer(f"There is no customer with this id. {self.customers}")

    def accounts(self, customer_id: str, on: str | None = None) -> tuple[Account, ...]:
        self.require(customer_id)
        return tuple(Account(*row) for row in self._rows(ACCOUNTS, {"customer": customer_id, "day": on}))

    def transactions(self, customer_id: str, query: TransactionQuery = LATEST) -> tuple[Transaction, ...]:
        where, values = self._conditions(customer_id, query)
        values["limit"] = -1 if query.limit is None else query.limit
        sql = f"SELECT {COLUMNS} FROM transactions WHERE {where} ORDER BY {ORDERS[query.order]} LIMIT :limit"
        return tuple(Transaction(*row) for row in self._rows(sql, values))

    def cards(self, customer_id: str) -> tuple[Card, ...]:
        return self._all(Card, "customer_cards", "card_id", customer_id)

    def payees(self, customer_id: str) -> tuple[Payee, ...]:
        return self._all(Payee, "customer_payees", "payee_id", customer_id)

    def standing_orders(self, customer_id: str) -> tuple[StandingOrder, ...]:
        return self._all(StandingOrder, REGULAR_AND_SCHEDULED, "next_due, order_id", customer_id)

    def merchants(self, customer_id: str) -> tuple[str, ...]:
        where, values = self._conditions(customer_id, LATEST)
        sql = (
            f"SELECT counterparty FROM transactions WHERE {where} AND counterparty IS NOT NULL GROUP BY counterparty "
            "ORDER BY COUNT(*) DESC, counterparty"
        )
        return tuple(name for (name,) in self._rows(sql, values))

    def categories(self) -> tuple[str, ...]:
        return tuple(name for (name,) in self._rows("SELECT name FROM categories ORDER BY name", ()))

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, for this thread until the end of the block. Raises `LedgerError` if a statement fails."""
        with self._lock, ledger_errors():
            yield self._db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed and synced to disk at the end of the block, undone if the block raises.

        Other threads and processes wait. Raises `LedgerError` if the file cannot be written.
        """
        with self.reading() as db, transaction(db):
            yield db

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _all(self, kind: type[Row], view: str, order: str, customer_id: str) -> tuple[Row, ...]:
        self.require(customer_id)
        columns = ", ".join(field.name for field in fields(kind))
        sql = f"SELECT {columns} FROM {view} WHERE customer_id = ? ORDER BY {order}"
        return tuple(kind(*row) for row in self._rows(sql, (customer_id,)))

    def _conditions(self, customer_id: str, query: TransactionQuery) -> tuple[str, dict[str, object]]:
        """A condition for the view `transactions`, and its values. Raises `UnknownCustomer`."""
        self.require(customer_id)
        # SQLite uses the index for named accounts, and not for a subquery: 1 ms instead of 15.
        held = self._rows("SELECT account_id FROM holders WHERE customer_id = ?", (customer_id,))
        own = {f"own{number}": account for number, (account,) in enumerate(held)}
        wanted = {name: value for name in CONDITIONS if (value := getattr(query, name)) is not None}
        values = {name: min(value, MAX_MINOR) if isinstance(value, int) else value for name, value in wanted.items()}
        where = [f"account_id IN ({', '.join(f':{name}' for name in own)})", "kind <> 'opening'"]
        return " AND ".join([*where, *(CONDITIONS[name] for name in values)]), own | values

    def _rows(self, sql: str, values: tuple[object, ...] | Mapping[str, object]) -> list[tuple[Any, ...]]:
        with self.reading() as db:
            return db.execute(sql, values).fetchall()


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Convert SQLite's errors to a `LedgerError` with advice."""
    try:
        yield
    except sqlite3.Error as error:
        what = advice(error) or "Restart the service."
        raise LedgerError(f"The ledger cannot be used ({error}). {what}") from error


def book(
    db: sqlite3.Connection, *, booked: str, kind: str, description: str, postings: Mapping[str, int], **more: object
) -> int:
    """Add an entry inside `SQLiteBank.writing`, and return its id.

    `postings`: account → amount in minor units, positive for money into the account. `more`: further columns of the
    table `entries`. Raises `UsageError` if the postings do not sum to zero in each currency.
    """
    row = {"booked": booked, "kind": kind, "description": description, "category": "transfers", **more}
    columns, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    entry = db.execute(f"INSERT INTO entries ({columns}) VALUES ({marks})", row).lastrowid
    assert entry is not None
    rows = [(account, booked, entry, amount) for account, amount in postings.items()]
    db.executemany("INSERT INTO postings VALUES (?, ?, ?, ?)", rows)
    if wrong := db.execute("SELECT currency, amount_minor FROM unbalanced WHERE entry_id = ?", (entry,)).fetchone():
        raise UsageError(f"Expected postings that sum to zero per currency, got {wrong[1]} in {wrong[0]}.")
    return entry


def create_schema(db: sqlite3.Connection) -> None:
    """Create the tables in an empty database, inside the caller's transaction."""
    run_script(db, "ledger.sql")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def open_or_create(path: Path, fill: Callable[[sqlite3.Connection], None] = create_schema) -> SQLiteBank:
    """Open the ledger at `path`; `fill` a missing or empty file in one transaction. Raises `LedgerError`."""
    db = connect(path, "rwc")
    bank = SQLiteBank(db)
    try:
        db.execute(f"PRAGMA busy_timeout = {1000 * CREATION_S}")  # until another process has filled the file
        with bank.writing():
            if not db.execute("PRAGMA user_version").fetchone()[0]:
                fill(db)
        db.execute(f"PRAGMA busy_timeout = {1000 * BUSY_TIMEOUT_S:.0f}")
    except BaseException:
        bank.close()
        raise
    return bank


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """Connect to a ledger's file. Raises `LedgerError` if there is none (`rw`), or if it is not a ledger's."""
    fault = "it is an SQLite file of another program"
    try:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None, timeout=BUSY_TIMEOUT_S)
        application, version = (
            db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application == APPLICATION_ID and version > SCHEMA_VERSION:
            fault = f"it has schema {version}, and this bankllm reads up to {SCHEMA_VERSION}; upgrade bankllm"
        elif application == APPLICATION_ID or (mode == "rwc" and not path.stat().st_size):
            return db
        db.close()
    except sqlite3.Error as error:
        fault = str(error)
    raise LedgerError(
        f"The ledger at {str(path)!r} cannot be opened ({fault}). Expected an SQLite file with the tables of "
        "bankllm/data/ledger.sql and its application_id and user_version. Correct BANKLLM_LEDGER."
    )


@BANKS.register("sqlite")
def open_sqlite(path: str, settings: Settings | None = None) -> SQLiteBank:
    return SQLiteBank(connect(Path(path)))
