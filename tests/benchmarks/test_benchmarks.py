"""Logic of the benchmarks of serving, the store and mutations, and small runs of them."""

import ast
import shutil
import sys
from pathlib import Path

import pytest

from bankllm.errors import NotMeasured
from bankllm.loadtest.server_process import ServerProcess
from tests.support import ROOT, SUPPORT


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_sends_each_body_with_its_token_and_counts_errors(tmp_path: Path) -> None:
    import httpx
    import wrk

    calls = [
        wrk.Call({"message": "fail", "customer_id": "CUST001"}, "one"),
        wrk.Call({"message": 'a "quoted"\tword', "customer_id": "CUST002"}, "two"),
    ]
    with ServerProcess(program=(sys.executable, str(SUPPORT / "loadtest_app.py"))) as server:
        window = wrk.drive(calls, server.url + "/api/v1/chat", tmp_path, seconds=1, connections=2)
        seen = httpx.get(server.url + "/seen", trust_env=False).json()
        health = wrk.drive([], server.url + "/health", tmp_path, seconds=1, connections=2, core=0)
    chats = [call for call in seen if call["kind"] == "chat"]
    assert {(call["message"], call["authorization"]) for call in chats} == {
        ("fail", "Bearer one"),
        ('a "quoted"\tword', "Bearer two"),
    }
    assert window.errors.keys() == {"status"}
    assert window.errors["status"] == pytest.approx(window.answered, abs=2)
    assert 0 < window.p50_ms <= window.p95_ms <= window.p99_ms <= window.max_ms
    assert health.answered > 0
    assert not health.errors


def test_the_rate_leaves_out_failed_replies() -> None:
    import wrk

    errors = {"status": 40, "connect": 0, "read": 0, "write": 0, "timeout": 0}
    report = {"replies": 100, "microseconds": 2_000_000, "p50": 1000, "p95": 2000, "p99": 3000, "max": 4000}
    window = wrk.read_window({**report, "errors": errors}, 0.1)
    assert (window.answered, window.per_second, window.errors) == (60, 30.0, {"status": 40})


def test_memory_is_flat_if_it_settles_in_the_first_minute() -> None:
    import soak

    assert soak.growth([(float(at), 500.0 + min(at, 60) * 5) for at in range(0, 600, 5)], 600) == 0
    assert soak.growth([(float(at), 500.0 + at * 0.1) for at in range(0, 600, 5)], 600) > soak.MAX_GROWTH
    with pytest.raises(NotMeasured, match="found 4"):
        soak.growth([(float(at), 500.0) for at in range(0, 25, 5)], 25)


@pytest.mark.slow
def test_killed_writers_lose_no_acknowledged_rows(tmp_path: Path) -> None:
    import store_kill

    rounds = store_kill.kill_rounds(tmp_path / "memory.sqlite", 2, threads=3, seed=0)
    for one in rounds:
        assert (one.lost, one.reappeared, one.partial, one.integrity_ok) == (0, 0, 0, True)
    assert sum(one.acknowledged for one in rounds) > 20


def test_a_small_store_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import store_scale

    monkeypatch.setattr(store_scale, "concurrent", lambda store, queries: {"p50": 1.0})
    line = store_scale.measure_size(tmp_path / "scale.sqlite", 50)
    assert line["rows"] == 50
    assert line["search"]["p50"] <= line["search"]["p95"] <= line["search"]["max"]
    assert "rows 50 | " in store_scale.show(line)


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
