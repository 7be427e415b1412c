"""Logic of the benchmarks, and small runs of `store_kill.py` and `actions.py`."""

import ast
from pathlib import Path

import pytest

from benchmarks import actions, mutation, store_kill
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
