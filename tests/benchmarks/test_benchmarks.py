"""Logic of the benchmarks of serving, the store and mutations, and small runs of them."""

import ast
from pathlib import Path

import pytest

from tests.support import ROOT


@pytest.mark.slow
def test_killed_writers_lose_no_acknowledged_rows(tmp_path: Path) -> None:
    import store_kill

    rounds = store_kill.kill_rounds(tmp_path / "memory.sqlite", 2, threads=3, seed=0)
    for one in rounds:
        assert (one.lost, one.reappeared, one.partial, one.integrity_ok) == (0, 0, 0, True)
    assert sum(one.acknowledged for one in rounds) > 20


def test_each_change_of_the_sample_is_valid_python() -> None:
    import mutation

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
