"""Logic of the benchmarks, and small runs of `store_kill.py` and `actions.py`."""

import ast
from pathlib import Path
from typing import Any

import pytest

from benchmarks import actions, held_out, mutation, store_kill
from tests.support import ROOT


@pytest.mark.slow
def test_killed_writers_lose_no_acknowledged_rows(tmp_path: Path) -> None:
    rounds = store_kill.kill_rounds(tmp_path / "memory.sqlite", 2)
    for one in rounds:
        assert (one.lost, one.reappeared, one.partial, one.integrity_ok) == (0, 0, 0, True)
    assert sum(one.acknowledged for one in rounds) > 20


def test_each_change_of_the_sample_is_valid_python() -> None:
    changes = mutation.sample(list(mutation.TARGETS), 200)
    assert len(changes) == len(set(changes)) == 200
    assert changes == mutation.sample(list(mutation.TARGETS), 200)
    assert {change.module for change in changes} == set(mutation.TARGETS)
    for change in changes:
        source = (ROOT / "bankllm" / change.module).read_bytes()
        changed = source[: change.start] + change.after.encode() + source[change.stop :]
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), change
    tests = " ".join(mutation.TARGETS.values()).split()
    assert [name for name in tests if not (ROOT / "tests" / name).exists()] == []


@pytest.mark.slow
def test_a_killed_process_books_a_transfer_once_or_not_at_all(tmp_path: Path) -> None:
    total = actions.kill_rounds(tmp_path, 1)
    assert total["killed"] > 12


def test_nothing_that_is_said_or_sent_acts_without_a_confirmation() -> None:
    seen = actions.converse(60)
    assert seen["conversations"] >= 60
    assert seen["booked"] > 5


@pytest.mark.parametrize(
    ("question", "reply", "result", "grade"),
    [
        ({"kind": "amount", "amounts_minor": [[1234, 1300]]}, "You spent £13.00 at Costa.", {}, "right"),
        ({"kind": "amount", "amounts_minor": [[1234]]}, "Your payments:", {"rows": [{"amount_minor": -1234}]}, "right"),
        ({"kind": "amount", "amounts_minor": [[1234], [500]]}, "You spent £12.34.", {}, "wrong"),
        ({"kind": "amount", "amounts_minor": [[1234]], "counts": [3]}, "£12.34 in 3 payments", {}, "right"),
        ({"kind": "amount", "amounts_minor": [[16000]], "currency": "JPY"}, "You paid ¥16,000.", {}, "right"),
        ({"kind": "amount", "amounts_minor": [[1234]]}, "Which days do you mean?", {}, "asked"),
        ({"kind": "none"}, "You spent £0.00 at Aldi: there are no payments.", {}, "right"),
        ({"kind": "none"}, "You spent £5.00 at Aldi.", {}, "wrong"),
        ({"kind": "ask"}, "Which account do you mean?", {}, "right"),
        ({"kind": "ask"}, "You have £5.00.", {}, "wrong"),
    ],
)
def test_held_out_answers_are_graded_by_their_amounts(
    question: dict[str, Any], reply: str, result: dict[str, Any], grade: str
) -> None:
    assert held_out.grade(question, {"reply": reply, "calls": [{"result": result}]}) == grade
