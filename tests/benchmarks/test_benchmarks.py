"""Logic of the benchmarks, and a small run of `store_kill.py`."""

import ast
from pathlib import Path

import pytest

from benchmarks import mutation, store_kill
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
