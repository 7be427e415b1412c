"""The bank backends: demo data identical on every machine, exact to the minor unit, and only for known customers."""

import sqlite3
from pathlib import Path

import pytest

from bankllm.assistant.bank.backends.demo_bank import CUSTOMERS
from bankllm.assistant.bank.knowledge import DATA
from bankllm.assistant.bank.ledger import UnknownCustomer, format_money, open_bank
from bankllm.errors import LedgerError, UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A bank's own ledger: the demo data in a file."""
    path = tmp_path / "own #1.sqlite"  # a name that needs quoting in a URI
    with sqlite3.connect(path) as connection:
        connection.executescript((DATA / "demo_ledger.sql").read_text(encoding="utf-8"))
    connection.close()
    return path


def test_a_file_gives_the_same_rows_as_the_demo(file: Path) -> None:
    demo, own = open_bank("demo:"), open_bank(f"sqlite:{file}")
    for customer in CUSTOMERS:
        assert demo.accounts(customer) == own.accounts(customer)
        assert demo.transactions(customer) == own.transactions(customer)
    # These amounts are shown in notebooks, so a change of the demo data must be intended.
    assert [account.balance_minor for account in demo.accounts("CUST001")] == [490760, 283383]
    with pytest.raises(UnknownCustomer, match=r"Send the id of a customer of the ledger"):
        own.require("CUST999")
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM transactions WHERE account_id = 'ACC00102'")
    connection.close()
    assert [account.balance_minor for account in open_bank(f"sqlite:{file}").accounts("CUST001")] == [490760, 0]


def test_demo_ledger_is_consistent() -> None:
    bank = open_bank()
    booked = [t.booked for t in bank.transactions("CUST001", 1000)]
    assert booked == sorted(booked, reverse=True)
    assert [t.booked for t in bank.transactions("CUST001", 5)] == booked[:5]
    ids: set[str] = set()
    for customer in CUSTOMERS:
        for account in bank.accounts(customer):
            rows = [t for t in bank.transactions(customer, 1000) if t.account_id == account.account_id]
            assert account.balance_minor == sum(t.amount_minor for t in rows)
            assert {t.currency for t in rows} == {account.currency}
            rearranged = account.iban[4:] + account.iban[:4]
            assert int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1
            assert ids.isdisjoint((account.account_id, account.iban)), "one account, one customer"
            ids |= {account.account_id, account.iban}


@pytest.mark.parametrize("customer_id", ["CUST999", "", "cust001", "CUST001' OR '1'='1"])
def test_unknown_customer_is_refused(customer_id: str) -> None:
    bank = open_bank()
    for read in (bank.require, bank.accounts, bank.transactions):
        with pytest.raises(UnknownCustomer, match=r"no customer with this id.*CUST001 to CUST010"):
            read(customer_id)


def test_files_that_are_not_ledgers_are_refused_and_not_changed(tmp_path: Path) -> None:
    text, foreign, empty = tmp_path / "notes.txt", tmp_path / "other.sqlite", tmp_path / "empty.sqlite"
    text.write_text("not a database, but long enough to be taken for one" * 50)
    for path, sql in ((foreign, "CREATE TABLE wine (year)"), (empty, "CREATE TABLE customers (customer_id)")):
        with sqlite3.connect(path) as other:
            other.execute(sql)
        other.close()
    for path in (text, foreign, empty, tmp_path / "missing.sqlite"):
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(LedgerError, match=r"Expected an SQLite file with the tables.*Correct BANKLLM_LEDGER"):
            open_bank(f"sqlite:{path}")
        assert (path.read_bytes() if path.exists() else None) == before


def test_a_ledger_that_fails_later_is_a_ledger_error(file: Path) -> None:
    bank = open_bank(f"sqlite:{file}")
    bank.close()
    with pytest.raises(LedgerError, match=r"The ledger cannot be read \(.*\)\. Restore its file"):
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
