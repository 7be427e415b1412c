"""Conversations that the rules must pass, and the grader itself.

`python benchmarks/conversations.py` holds all of them, with the language model, too. Here are the first `EACH`
dialogues of each theme that `passing.txt` lists: `benchmarks/conversations.py --passing` wrote there what passed.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path

import pytest

from bankllm.assistant.bank.ledger import open_bank
from bankllm.assistant.bank.tools import call_schemas
from bankllm.lab.conversation_bank import (
    FOLDER,
    TODAY,
    Dialogue,
    Expect,
    Final,
    TurnAnswer,
    faults,
    final_faults,
    load,
    reading,
    reset,
)
from bankllm.lab.conversations import Desk, desk
from bankllm.settings import Settings

EACH = 3
DIALOGUES = load()
PASSING = set((FOLDER / "passing.txt").read_text(encoding="utf-8").split())
SUBSET = [
    dialogue
    for _, theme in groupby(DIALOGUES, key=lambda dialogue: dialogue.theme)
    for dialogue in [one for one in theme if one.id in PASSING][:EACH]
]


@pytest.fixture(scope="session")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    with desk(tmp_path_factory.mktemp("conversations"), "rules") as running:
        yield running


@pytest.fixture(scope="session")
def demo_of_today(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger of the conversations. It must not be changed."""
    path = tmp_path_factory.mktemp("demo") / "ledger.sqlite"
    open_bank(f"demo:{path}", Settings(today=TODAY)).close()
    return path


@pytest.mark.slow
@pytest.mark.parametrize("dialogue", SUBSET, ids=lambda dialogue: f"{dialogue.theme}-{dialogue.id}")
def test_a_conversation_goes_as_expected(dialogue: Dialogue, held: Desk) -> None:
    assert held.hold(dialogue).failures == []


def test_the_bank_covers_every_tool_and_names_each_dialogue_once() -> None:
    assert len({dialogue.id for dialogue in DIALOGUES}) == len(DIALOGUES) >= 120
    expects = [turn.expect for dialogue in DIALOGUES for turn in dialogue.turns]
    called = {call["tool"] for expect in expects for call in expect.calls or []}
    proposed = {expect.pending["tool"] for expect in expects if isinstance(expect.pending, dict)}
    assert called | proposed == call_schemas().keys()
    assert {dialogue.id for dialogue in DIALOGUES} >= PASSING


def test_every_query_gives_something_on_the_fresh_ledger(demo_of_today: Path) -> None:
    """An amount of nothing would be right in a reply that has not found anything, either."""
    for dialogue in DIALOGUES:
        with reading(demo_of_today, demo_of_today, dialogue.customer) as db:
            for turn in dialogue.turns:
                named = {"date_from": "", "date_to": "2026-11-16"}
                for call in turn.expect.calls or []:
                    named |= {name: value[0] if isinstance(value, list) else value for name, value in call.items()}
                expect = turn.expect
                for sql in (*expect.money, *expect.figures, *expect.not_money, *expect.told, expect.rows or "SELECT 1"):
                    row = db.execute(sql, named).fetchone()
                    assert row is not None, (dialogue.id, sql)
                    assert row[0] not in (None, 0, ""), (dialogue.id, sql)


@pytest.mark.parametrize(
    ("reply", "wrong"),
    [
        ("Your current account has £4,907.60.", 0),
        ("Your current account has £4,907.6.", 1),
        ("Your current account has £14,907.60.", 1),
        ("Your current account has £4,907.60, and your savings have nothing.", 1),
        ("Current: £4,907.60. None.", 1),
    ],
)
def test_an_amount_and_words_are_graded(reply: str, wrong: int, demo_of_today: Path) -> None:
    sql = "SELECT balance_minor FROM my_accounts WHERE kind = 'current'"
    expect = Expect(money=[sql], words=["current"], not_words=["sav.ngs"])
    with reading(demo_of_today, demo_of_today, "CUST001") as db:
        assert len(faults(expect, TurnAnswer(status=200, text=reply), db)) == wrong


@pytest.mark.parametrize(
    ("calls", "wrong"),
    [
        ([("spending", {"merchant": "Lidl", "date_from": "2026-10-01"})], 0),
        ([("spending", {"merchant": "Lidl", "date_from": "2026-10-02"}), ("small_talk", {})], 0),
        ([("spending", {"merchant": "Aldi", "date_from": "2026-10-01"})], 2),  # the call lacks, another one is there
        ([("spending", {"merchant": "Lidl", "date_from": "2026-10-01", "category": "groceries"})], 2),
        ([("spending", {"merchant": "Lidl", "date_from": "2026-10-01"}), ("balance", {})], 1),
        ([], 1),
    ],
)
def test_calls_are_graded(calls: list[tuple[str, dict[str, str]]], wrong: int, demo_of_today: Path) -> None:
    wanted = {"tool": "spending", "merchant": "Lidl", "date_from": ["2026-10-01", "2026-10-02"], "category": None}
    answer = TurnAnswer(status=200, text="Well.", calls=[{"tool": tool, "arguments": given} for tool, given in calls])
    with reading(demo_of_today, demo_of_today, "CUST001") as db:
        assert len(faults(Expect(calls=[wanted]), answer, db)) == wrong


@pytest.mark.parametrize(
    ("expected", "got", "wrong"),
    [
        ({}, ("transfer", {"amount_minor": 500}), 1),  # no proposal was expected
        ({"pending": "any"}, ("transfer", {"amount_minor": 500}), 0),
        ({"pending": {"tool": "transfer", "amount_minor": 500}}, ("transfer", {"amount_minor": 500}), 0),
        ({"pending": {"tool": "transfer", "amount_minor": 500}}, ("transfer", {"amount_minor": 5000}), 1),
        ({"pending": {"tool": "transfer"}}, None, 1),
        ({"asks": True}, ("transfer", {}), 2),
    ],
)
def test_proposals_are_graded(expected: dict, got: tuple[str, dict] | None, wrong: int, demo_of_today: Path) -> None:
    proposal = {"action_id": "a", "tool": got[0], "arguments": got[1]} if got else None
    answer = TurnAnswer(status=200, text="Shall I?", proposal=proposal, is_new=got is not None, asks=True)
    with reading(demo_of_today, demo_of_today, "CUST001") as db:
        assert len(faults(Expect(**expected), answer, db)) == wrong


def test_any_change_of_the_ledger_that_is_not_expected_is_a_fault(ledger: Path, tmp_path: Path) -> None:
    live, start = tmp_path / "live.sqlite", tmp_path / "start.sqlite"
    reset(live, ledger, start, {"CUST002": "CUST002-1"})
    with reading(live, start, "CUST002-1") as db:
        assert final_faults(Final(), db) == []
        assert db.execute("SELECT status FROM my_cards").fetchall() == [("active",)]
    with closing(sqlite3.connect(live)) as db, db:
        db.execute("UPDATE cards SET status = 'frozen' WHERE customer_id = 'CUST002-1'")
    with reading(live, start, "CUST002-1") as db:
        assert len(final_faults(Final(), db)) == 1
        expected = {"query": "SELECT status FROM my_cards", "equals": "frozen"}
        assert final_faults(Final(changes=["cards"], sql=[expected]), db) == []
        assert len(final_faults(Final(changes=["cards"], sql=[expected | {"equals": "lost"}]), db)) == 1
