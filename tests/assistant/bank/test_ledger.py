"""The ledger: the same demo bank everywhere, balanced books, reads that agree with SQL, and clear errors."""

import itertools
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from bankllm.assistant.bank.backends import sqlite_bank
from bankllm.assistant.bank.backends.demo_bank import CUSTOMERS
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank, book
from bankllm.assistant.bank.ledger import TransactionQuery, UnknownCustomer, format_money, open_bank
from bankllm.errors import LedgerError, UsageError
from bankllm.settings import Settings

ALL = TransactionQuery()


def rows(file: Path, sql: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql, values).fetchall()


def test_the_demo_bank_is_the_same_in_memory_and_in_a_file(bank: SQLiteBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANKLLM_TODAY", "2026-11-29")
    demo = open_bank()
    for customer in CUSTOMERS:
        assert demo.accounts(customer) == bank.accounts(customer)
        assert demo.transactions(customer, ALL) == bank.transactions(customer, ALL)
    # These amounts are shown in README and notebooks; they do not depend on the day.
    monkeypatch.setenv("BANKLLM_TODAY", "2027-03-01")
    later = open_bank()
    assert [account.balance_minor for account in later.accounts("CUST001")] == [490760, 283383]
    october = TransactionQuery(date_from="2026-10-01", date_to="2026-10-31")
    assert later.transactions("CUST001", october) == bank.transactions("CUST001", october), "a past month stays"


def test_processes_share_one_file_which_keeps_what_they_book(tmp_path: Path) -> None:
    settings = Settings(store=tmp_path / "memory.sqlite", today=date(2026, 11, 29))
    opened: list[SQLiteBank] = []
    threads = [threading.Thread(target=lambda: opened.append(open_bank("demo:", settings))) for _ in range(4)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["memory.ledger-2026-11-29.sqlite"]
    with opened[0].writing() as db:
        postings = {"ACC00101": -1000, "OUTSIDE-GBP": 1000}
        book(db, booked="2026-11-29", kind="transfer", description="Mum", postings=postings, counterparty="Mum")
    assert {bank.accounts("CUST001")[0].balance_minor for bank in (*opened, open_bank("demo:", settings))} == {489760}


def test_the_books_balance(bank: SQLiteBank, ledger: Path) -> None:
    assert rows(ledger, "SELECT * FROM unbalanced") == []
    ids: set[str] = set()
    joint = 0
    for customer in CUSTOMERS:
        months = {row.booked[:7] for row in bank.transactions(customer, ALL)}
        assert len(months) >= 15
        for account in bank.accounts(customer):
            (balance,) = rows(ledger, "SELECT SUM(amount_minor) FROM postings WHERE account_id = ?", account.account_id)
            assert account.balance_minor == balance[0]
            assert {
                t.currency for t in bank.transactions(customer, TransactionQuery(account_id=account.account_id))
            } == {account.currency}
            rearranged = account.iban[4:] + account.iban[:4]
            assert int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1
            joint += account.account_id in ids
            assert account.holders == 1 + (account.kind == "joint")
            ids.add(account.account_id)
    assert joint == 2, "two joint accounts with two holders"
    lowest = """
        SELECT MIN(balance + overdraft_minor) FROM accounts JOIN (
            SELECT account_id, SUM(amount_minor) OVER (PARTITION BY account_id ORDER BY booked, entry_id) AS balance
            FROM postings) USING (account_id)
        WHERE kind <> 'internal'"""
    assert rows(ledger, lowest)[0][0] >= 0, "no account was ever below its overdraft"


def test_a_booked_entry_stays_and_an_unbalanced_one_is_refused(bank: SQLiteBank, ledger: Path) -> None:
    before = rows(ledger, "SELECT COUNT(*), SUM(amount_minor) FROM postings")
    for sql in ("UPDATE postings SET amount_minor = 0", "DELETE FROM entries"):
        with pytest.raises(LedgerError, match="book another"), bank.writing() as db:
            db.execute(sql)
    with pytest.raises(UsageError, match=r"sum to zero per currency, got 100 in EUR"), bank.writing() as db:
        book(db, booked="2026-11-29", kind="fee", description="?", postings={"ACC00101": -100, "OUTSIDE-EUR": 100})
    assert rows(ledger, "SELECT COUNT(*), SUM(amount_minor) FROM postings") == before


VALUES: dict[str, tuple[Any, ...]] = {
    "merchant": (None, "Amazon", "tesco express", "Next", "Nobody"),
    "category": (None, "eating out", "groceries", "salary"),
    "date_from": (None, "2026-10-01"),
    "date_to": (None, "2026-10-31"),
    "account_id": (None, "ACC00102"),
    "direction": (None, "in", "out"),
    "minimum_minor": (None, 5000),
    "own_transfers": (True, False),
}


def test_queries_agree_with_python(bank: SQLiteBank, ledger: Path) -> None:
    groups = dict(rows(ledger, "SELECT name, parent FROM categories"))
    everything = bank.transactions("CUST001", ALL)
    found = 0
    for values in itertools.product(*VALUES.values()):
        query = TransactionQuery(**dict(zip(VALUES, values, strict=True)))
        expected = [
            row
            for row in everything
            if (query.merchant is None or (row.counterparty or "").lower() == query.merchant.lower())
            and query.category in (None, row.category, groups[row.category])
            and (query.date_from or "") <= row.booked <= (query.date_to or "9")
            and query.account_id in (None, row.account_id)
            and query.direction in (None, "in" if row.amount_minor > 0 else "out")
            and abs(row.amount_minor) >= (query.minimum_minor or 0)
            and (query.own_transfers or row.kind != "own_transfer")
        ]
        assert list(bank.transactions("CUST001", query)) == expected
        found += bool(expected)
    assert found > 250
    largest = bank.transactions("CUST001", TransactionQuery(order="largest", limit=3))
    assert [abs(row.amount_minor) for row in largest] == sorted(abs(t.amount_minor) for t in everything)[:-4:-1]
    assert bank.transactions("CUST001", TransactionQuery(order="oldest", limit=2)) == everything[:-3:-1]


@pytest.mark.parametrize("customer_id", ["CUST999", "", "cust001", "CUST001' OR '1'='1"])
def test_unknown_customer_is_refused(customer_id: str) -> None:
    bank = open_bank()
    reads: list[Callable[[str], object]] = [bank.require, bank.accounts, bank.transactions, bank.cards]
    for read in [*reads, bank.payees, bank.standing_orders, bank.merchants]:
        with pytest.raises(UnknownCustomer, match=r"no customer with this id.*CUST001 to CUST012"):
            read(customer_id)


def test_files_that_are_not_ledgers_are_refused_and_not_changed(ledger: Path, tmp_path: Path) -> None:
    text, foreign, short = tmp_path / "notes.txt", tmp_path / "other.sqlite", tmp_path / "short.sqlite"
    newer = Path(shutil.copy(ledger, tmp_path / "newer.sqlite"))
    text.write_text("not a database, but long enough to be taken for one" * 50)
    for path, sql in ((foreign, "CREATE TABLE wine (year)"), (newer, "PRAGMA user_version = 99")):
        with closing(sqlite3.connect(path)) as other:
            other.execute(sql)
    short.write_bytes(ledger.read_bytes()[:100_000])
    faults = {text: "not a database", foreign: "another program", newer: "schema 99.*upgrade", short: "malformed"}
    for path, fault in {**faults, tmp_path / "missing.sqlite": "unable to open"}.items():
        before = path.read_bytes() if path.exists() else None
        for scheme in ("sqlite", "demo") if path.exists() else ("sqlite",):
            with pytest.raises(LedgerError, match=rf"{fault}.*Expected an SQLite file with the tables.*BANKLLM_LEDGER"):
                open_bank(f"{scheme}:{path}")
        assert (path.read_bytes() if path.exists() else None) == before


def test_a_ledger_that_fails_later_is_a_ledger_error(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_bank, "BUSY_TIMEOUT_S", 0.1)
    bank = open_bank(f"sqlite:{ledger}")
    with closing(sqlite3.connect(ledger, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerError, match=r"locked\)\. Another process has locked the file"):
            bank.accounts("CUST001")
    bank.close()
    with pytest.raises(LedgerError, match=r"The ledger cannot be used \(.*\)\. Restart the service"):
        bank.accounts("CUST001")
    with pytest.raises(UsageError, match=r"Unknown bank 'oracle'\. Expected one of: "):
        open_bank("oracle:x")


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (120450, "GBP", "£1,204.50"),
        (-420, "GBP", "-£4.20"),
        (5, "EUR", "€0.05"),
        (0, "USD", "$0.00"),
        (12000, "JPY", "¥12,000"),
        (-123456789, "CHF", "-1,234,567.89 CHF"),
    ],
)
def test_format_money(amount: int, currency: str, shown: str) -> None:
    assert format_money(amount, currency) == shown
