"""A hand-over is masked, readable until it expires, and each offer and reading is in the audit log."""

import json
from datetime import date

import pytest

from bankllm.assistant.actions import audit
from bankllm.assistant.bank.backends.sqlite_bank import SQLiteBank
from bankllm.assistant.bank.ledger import UnknownCustomer
from bankllm.assistant.handover import LIFETIME_S, LISTED, HandOverDesk, UnknownHandOver
from bankllm.settings import Settings
from bankllm.vectors.sqlite import clock

TODAY = Settings(today=date(2026, 11, 29))


@pytest.fixture
def desk(bank: SQLiteBank) -> HandOverDesk:
    return HandOverDesk(bank, TODAY)


def test_summary_is_masked_and_limited(desk: HandOverDesk) -> None:
    asked = [*(f"question {number}" for number in range(LISTED)), "My card 4111 1111 1111 1111 is stuck"]
    kept = desk.read(desk.offer("CUST001", "talk", asked, ["report_card: stuck"], ["Offered a person"]), "AGENT7")
    assert kept.asked[-1] == "My card [card …1111] is stuck"
    assert len(kept.asked) == LISTED
    assert (kept.customer_id, kept.understood, kept.tried) == (
        "CUST001",
        ("report_card: stuck",),
        ("Offered a person",),
    )
    with pytest.raises(UnknownCustomer):
        desk.offer("NOBODY", "talk", ["hello"])


def test_every_offer_and_reading_is_audited_without_the_summary(desk: HandOverDesk, bank: SQLiteBank) -> None:
    handover_id = desk.offer("CUST001", "talk", ["a secret question"])
    desk.read(handover_id, "AGENT7")
    with bank.writing() as db:
        entries = audit.check_chain(db, audit.audit_key(TODAY, db))
    assert [entry["event"] for entry in entries[-2:]] == ["handover_offered", "handover_read"]
    assert (entries[-1]["reader"], entries[-1]["handover_id"]) == ("AGENT7", handover_id)
    assert "secret" not in json.dumps(entries)


def test_expired_or_unknown_hand_over_is_an_error(
    desk: HandOverDesk, bank: SQLiteBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    handover_id = desk.offer("CUST001", "talk", ["hello"])
    with pytest.raises(UnknownHandOver):
        desk.read("a" * 32, "AGENT7")
    later = clock.Clock().latest() + LIFETIME_S + 1
    monkeypatch.setattr(clock.Clock, "latest", lambda self: later)
    with pytest.raises(UnknownHandOver, match="expired"):
        desk.read(handover_id, "AGENT7")
    desk.offer("CUST001", "talk", ["again"])
    with bank.reading() as db:
        assert db.execute("SELECT COUNT(*) FROM handovers").fetchone() == (1,)
