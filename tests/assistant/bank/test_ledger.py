"""The demo ledger: identical on every machine, exact to the minor unit, and only for known customers."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from bankllm.assistant.bank.ledger import CUSTOMERS, Ledger, UnknownCustomer, format_money
from bankllm.errors import StoreError


def test_demo_data_is_identical_in_every_ledger(tmp_path):
    in_memory, in_file = Ledger(), Ledger(tmp_path / "ledger.sqlite")
    for customer in CUSTOMERS:
        assert in_memory.accounts(customer) == in_file.accounts(customer)
        assert in_memory.transactions(customer) == in_file.transactions(customer)
    # These amounts are shown in notebooks, so a change of the demo data must be intended.
    assert [a.balance_minor for a in in_memory.accounts("CUST001")] == [490760, 283383]


def test_balance_is_the_sum_of_the_transactions():
    ledger = Ledger()
    for customer in CUSTOMERS:
        for account in ledger.accounts(customer):
            rows = [t for t in ledger.transactions(customer, 1000) if t.account_id == account.account_id]
            assert account.balance_minor == sum(t.amount_minor for t in rows)
            assert {t.currency for t in rows} == {account.currency}


def test_latest_transactions_come_newest_first():
    ledger = Ledger()
    booked = [t.booked for t in ledger.transactions("CUST001", 1000)]
    assert booked == sorted(booked, reverse=True)
    assert [t.booked for t in ledger.transactions("CUST001", 5)] == booked[:5]


def test_accounts_belong_to_one_customer_and_ibans_are_valid():
    ledger = Ledger()
    accounts = [account for customer in CUSTOMERS for account in ledger.accounts(customer)]
    assert len({a.account_id for a in accounts}) == len({a.iban for a in accounts}) == len(accounts)
    for account in accounts:
        rearranged = account.iban[4:] + account.iban[:4]
        assert int("".join(str(int(character, 36)) for character in rearranged)) % 97 == 1


@pytest.mark.parametrize("customer_id", ["CUST999", "", "cust001", "CUST001' OR '1'='1"])
def test_unknown_customer_is_refused(customer_id):
    ledger = Ledger()
    for read in (ledger.require, ledger.accounts, ledger.transactions):
        with pytest.raises(UnknownCustomer, match=r"no customer with this id.*CUST001 to CUST010"):
            read(customer_id)


def test_reads_from_many_threads():
    ledger = Ledger()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ledger.accounts, CUSTOMERS * 20))
    assert found == [ledger.accounts(customer) for customer in CUSTOMERS * 20]


def test_demo_data_is_written_once(tmp_path):
    path = tmp_path / "ledger.sqlite"
    first = Ledger(path)
    assert Ledger(path).accounts("CUST003") == first.accounts("CUST003")


def test_files_that_are_not_ledgers_are_rejected_and_not_changed(tmp_path):
    text, foreign = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    text.write_text("not a database, but long enough to be taken for one" * 50)
    with sqlite3.connect(foreign) as other:
        other.execute("CREATE TABLE wine (year INTEGER)")
    other.close()
    for path in (text, foreign, tmp_path / "missing" / "ledger.sqlite"):
        before = path.read_bytes() if path.exists() else None
        with pytest.raises(StoreError, match="Expected a ledger created by bankllm"):
            Ledger(path)
        assert (path.read_bytes() if path.exists() else None) == before


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
def test_format_money(amount, currency, shown):
    assert format_money(amount, currency) == shown
