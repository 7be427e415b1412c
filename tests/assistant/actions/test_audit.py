"""The audit log cannot be changed, shows each tampering and truncation, and holds no customer's words."""

import json
import logging
import sqlite3
import stat
from pathlib import Path

import pytest

from bankllm.assistant.actions import audit
from bankllm.assistant.actions.audit import audit_key
from bankllm.assistant.actions.proposals import ActionDesk
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.facts import ReadyCall
from bankllm.errors import UsageError
from bankllm.settings import Settings
from tests.support import Cli

ME = "CUST003"
TRANSFER = {"amount_minor": 5000, "payee_id": "PAY00301", "reference": "secret words"}
KEY = "k" * 32


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


@pytest.fixture
def used(desk: ActionDesk, bank: SQLiteBank, log: Path, caplog: pytest.LogCaptureFixture) -> Path:
    """The ledger's file after three proposals: one replaced, one booked, one cancelled. The heads are in `log`."""
    with caplog.at_level(logging.INFO, "bankllm"):
        for number in range(3):
            made = desk.propose(ME, "talk", ReadyCall("transfer", TRANSFER))
            if number:
                (desk.confirm if number == 1 else desk.cancel)(ME, made.action_id, made.digest)
    log.write_text("".join(json.dumps({"message": record.message}) + "\n" for record in caplog.records))
    with bank.reading() as db:
        file = audit.file_of(db)
    assert file is not None
    return file


def test_the_log_names_each_step_and_no_words_or_amounts(used: Path, bankllm: Cli, log: Path) -> None:
    entries = [json.loads(entry) for (entry,) in sqlite3.connect(used).execute("SELECT entry FROM audit")]
    assert [entry["event"] for entry in entries] == [
        *("proposed", "replaced", "proposed", "booked", "proposed", "cancelled")
    ]
    assert {name for entry in entries for name in entry} == {
        *("at", "event", "customer_id", "action_id", "tool", "digest", "entry", "chain")
    }
    assert not any(word in json.dumps(entries) for word in ("secret", "5000", "50.00", "Nair"))
    checked = bankllm("audit", used, "--log", log)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout == ("6 entries, 3 actions, 1 booked. The chain holds, and the log's 5 heads are in it.\n")
    assert bankllm("audit", BANKLLM_LEDGER=f"sqlite:{used}").returncode == 0


def test_triggers_refuse_every_change(used: Path) -> None:
    db = sqlite3.connect(used, isolation_level=None)
    for sql in (
        "UPDATE audit SET entry = '{}' WHERE number = 1",
        "DELETE FROM audit WHERE number = 6",
        "INSERT OR REPLACE INTO audit VALUES (6, 'x', '{}')",
        "INSERT INTO audit VALUES (0, 'x', '{}')",
        "INSERT INTO audit VALUES (8, 'x', '{}')",
        "REPLACE INTO audit SELECT 1, hash, entry FROM audit WHERE number = 2",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(sql)
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        db.execute("UPDATE actions SET state = 'proposed' WHERE state = 'booked'")


TAMPERINGS: dict[str, tuple[str, str]] = {
    "cut off": ("DELETE FROM audit WHERE number > 4", "it ends with entry 4, but entry 6 was kept"),
    "emptied": ("DELETE FROM audit", "it ends with entry 0, but entry 6 was kept"),
    "another amount": ("UPDATE actions SET arguments = replace(arguments, '5000', '1')", "is missing or changed"),
    "state": ("UPDATE actions SET state = 'booked' WHERE state = 'cancelled'", "is missing or changed"),
    "made up": ("UPDATE actions SET action_id = 'x' WHERE state = 'booked'", "is missing or changed"),
    "deleted": ("DELETE FROM actions WHERE state = 'booked'", "is missing or changed"),
    "posting": ("UPDATE postings SET amount_minor = 1 WHERE amount_minor = -5000", "does not balance"),
    "journal": (
        "DELETE FROM postings WHERE entry_id = (SELECT max(entry_id) FROM entries)",
        "an entry of the journal is missing",
    ),
}


@pytest.mark.parametrize(("sql", "reason"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_tampering_is_found(sql: str, reason: str, used: Path, log: Path, bankllm: Cli) -> None:
    with sqlite3.connect(used) as db:
        triggers = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (trigger,) in triggers:
            db.execute(f"DROP TRIGGER {trigger}")
        db.execute(sql)
    checked = bankllm("audit", used, "--log", log)
    assert checked.returncode == 1
    assert reason in " ".join(checked.stderr.split())


def test_a_chain_written_again_with_another_key_is_found(used: Path, log: Path, bankllm: Cli) -> None:
    assert "written with another key" in " ".join(bankllm("audit", used, BANKLLM_AUDIT_KEY=KEY).stderr.split())


def test_bad_arguments_of_the_command(used: Path, ledger: Path, tmp_path: Path, bankllm: Cli) -> None:
    empty = tmp_path / "empty.log"
    empty.write_text("nothing")
    checked = bankllm("audit", used, "--log", empty)
    assert (checked.returncode, "names no head" in " ".join(checked.stderr.split())) == (2, True)
    assert bankllm("audit", tmp_path / "none.sqlite").returncode == 1
    assert "has no audit log" in " ".join(bankllm("audit", ledger).stderr.split())
    used.with_name("ledger.sqlite.audit-key").unlink()
    assert "Restore the file" in " ".join(bankllm("audit", used).stderr.split())


def test_the_key_is_made_once_and_only_this_user_reads_it(desk: ActionDesk, bank: SQLiteBank, tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite.audit-key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with bank.writing() as db:
        assert audit_key(Settings(), db) == audit_key(Settings(), db) == file.read_bytes()
        assert audit_key(Settings(audit_key=KEY), db) == KEY.encode()
    memory = sqlite3.connect(":memory:")
    assert audit_key(Settings(), memory) != audit_key(Settings(), memory)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (Settings(audit_key="short"), "has 5 bytes, expected at least 32"),
        (Settings(ENVIRONMENT="production"), "ENVIRONMENT=production requires BANKLLM_AUDIT_KEY"),
    ],
)
def test_a_key_that_is_missing_or_short(settings: Settings, reason: str, bank: SQLiteBank) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        ActionDesk(bank, settings)
    assert "short" not in str(caught.value)


def test_a_ledger_of_schema_1_keeps_its_ended_orders_from_then_on(bank: SQLiteBank, desk: ActionDesk) -> None:
    before = bank.standing_orders(ME)
    with bank.writing() as db:
        for old in ("DROP VIEW customer_standing_orders", "ALTER TABLE standing_orders DROP COLUMN ended"):
            db.execute(old)
        db.execute(
            "CREATE VIEW customer_standing_orders AS SELECT customer_id, order_id, account_id, s.kind, s.name, "
            "amount_minor, currency, day, next_due, reference "
            "FROM standing_orders s JOIN accounts USING (account_id) JOIN holders USING (account_id)"
        )
        db.execute("PRAGMA user_version = 1")
    assert bank.standing_orders(ME) == before
    audit.prepare(bank, desk.settings)
    order = next(one for one in before if one.kind == "direct_debit")
    made = desk.propose(ME, "talk", ReadyCall("cancel_transfer", {"order_id": order.order_id}))
    desk.confirm(ME, made.action_id, made.digest)
    assert [one for one in before if one not in bank.standing_orders(ME)] == [order]
    with bank.reading() as db:
        row = db.execute("SELECT ended FROM standing_orders WHERE order_id = ?", (order.order_id,)).fetchone()
    assert row == (desk.settings.present_day.isoformat(),)
