"""Scheduled transfers are booked once when their day has come, after the checks of any transfer."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date

import pytest

from bankllm.assistant.actions.commands import check_ledger
from bankllm.assistant.actions.proposals import ActionDesk
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.facts import ReadyCall
from bankllm.settings import Settings

ME, DUE = "CUST003", "SCH00301"
"""A customer whose £40.00 to Daniel Nair are due on 5 December 2026."""
KEY = "the key of the audit log for the tests of due transfers"
EARLIER = "UPDATE scheduled SET status = 'cancelled' WHERE scheduled_id <> 'SCH00301'"


def desk_of(bank: SQLiteBank, day: str) -> ActionDesk:
    return ActionDesk(bank, Settings(today=date.fromisoformat(day), audit_key=KEY))


@pytest.fixture
def later(bank: SQLiteBank) -> Iterator[ActionDesk]:
    """A desk on 7 December, when only one transfer is due; at the end the log fits the books."""
    with bank.writing() as db:
        db.execute(EARLIER)
    yield desk_of(bank, "2026-12-07")
    with bank.writing() as db:
        assert check_ledger(db, KEY.encode(), []).endswith("The chain holds.")


def status(bank: SQLiteBank) -> str:
    with bank.reading() as db:
        return str(db.execute("SELECT status FROM scheduled WHERE scheduled_id = ?", (DUE,)).fetchone()[0])


def entries(bank: SQLiteBank) -> int:
    with bank.reading() as db:
        return int(db.execute("SELECT COUNT(*) FROM entries").fetchone()[0])


def test_it_is_booked_on_its_day_or_later_and_once(later: ActionDesk, bank: SQLiteBank) -> None:
    before = entries(bank)
    desk_of(bank, "2026-12-04").book_due()
    assert (entries(bank), status(bank)) == (before, "waiting")
    for desk in (later, later, desk_of(bank, "2026-12-07"), desk_of(bank, "2026-12-08")):
        desk.book_due()
    assert (entries(bank), status(bank)) == (before + 1, "booked")
    newest = bank.transactions(ME)[0]
    assert (newest.booked, newest.counterparty, newest.amount_minor) == ("2026-12-07", "Daniel Nair", -4000)
    (sent,) = later.proposals(ME)
    assert (sent.state, sent.conversation_id) == ("booked", DUE)
    assert sent.result.startswith("Done: Send £40.00 to Daniel Nair, as scheduled for 5 December 2026. Your Current")
    assert not [order for order in bank.standing_orders(ME) if order.order_id == DUE]


def test_a_cancelled_one_and_one_between_own_accounts(later: ActionDesk, bank: SQLiteBank) -> None:
    before, desk = entries(bank), desk_of(bank, "2026-11-29")
    own = {"amount_minor": 700, "from_account_id": "ACC00301", "to_account_id": "ACC00302", "date": "2026-12-05"}
    for call in (ReadyCall("cancel_transfer", {"scheduled_id": DUE}), ReadyCall("transfer", own)):
        made = desk.propose(ME, "talk", call)
        desk.confirm(ME, made.action_id, made.digest)
    later.book_due()
    assert (entries(bank), status(bank)) == (before + 1, "cancelled")
    assert later.proposals(ME)[0].text == "Send £7.00 to Savings account, as scheduled for 5 December 2026"
    assert {row.kind for row in bank.transactions(ME) if row.booked == "2026-12-07"} == {"own_transfer"}


FAULTS = {
    "balance": ("UPDATE scheduled SET amount_minor = 900000", "available, which is not enough"),
    "limit": ("UPDATE scheduled SET amount_minor = 1000001", "You can transfer £10,000.00 a day"),
    "owner": ("DELETE FROM holders WHERE account_id = 'ACC00301'", "I found no account for this"),
    "payee": ("UPDATE payees SET customer_id = 'CUST001' WHERE payee_id = 'PAY00301'", "I found no saved payee"),
    "held": ("INSERT INTO payment_holds VALUES ('CUST003', 1e12)", "looks like a scam"),
}


@pytest.mark.parametrize(("change", "reason"), FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_booked_is_refused_with_the_reason(
    change: str, reason: str, later: ActionDesk, bank: SQLiteBank
) -> None:
    before = entries(bank)
    with bank.writing() as db:
        db.execute(change)
    later.book_due()
    assert (entries(bank), status(bank)) == (before, "cancelled")
    (refused,) = later.proposals(ME)
    assert refused.state == "refused"
    assert reason in refused.result
    desk_of(bank, "2026-12-08").book_due()
    assert entries(bank) == before


def test_two_workers_book_it_once(later: ActionDesk, bank: SQLiteBank) -> None:
    with bank.reading() as db:
        file = db.execute("SELECT file FROM pragma_database_list").fetchone()[0]
    before = entries(bank)
    with closing(SQLiteBank(sqlite3.connect(file, check_same_thread=False))) as other, ThreadPoolExecutor(4) as pool:
        desks = [later, desk_of(bank, "2026-12-07"), *(desk_of(other, "2026-12-07") for _ in range(2))]
        list(pool.map(ActionDesk.book_due, desks))
    assert (entries(bank), status(bank)) == (before + 1, "booked")


def test_a_failure_in_between_books_nothing_and_is_tried_again(
    later: ActionDesk, bank: SQLiteBank, caplog: pytest.LogCaptureFixture
) -> None:
    """The audit log's entry is the last statement of the transaction."""
    before = entries(bank)
    for fault, repair in (
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0"),
        (
            "CREATE TEMP TRIGGER fail BEFORE INSERT ON main.audit WHEN NEW.entry LIKE '%\"booked\"%' "
            "BEGIN SELECT RAISE(ABORT, 'no space'); END",
            "DROP TRIGGER temp.fail",
        ),
    ):
        with bank.reading() as db:
            db.execute(fault)
        later.book_due()
        assert (entries(bank), status(bank), later.proposals(ME)) == (before, "waiting", [])
        assert "tried again" in caplog.text
        caplog.clear()
        with bank.reading() as db:
            db.execute(repair)
    later.book_due()
    assert (entries(bank), status(bank)) == (before + 1, "booked")
