"""The Locust driver: exactly the planned number of requests, each with its phase."""

from pathlib import Path

import pytest

from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from tests.support.loadtest_app import ARGUMENTS, MIXED, check_rows, seen


@pytest.mark.slow
def test_locust_sends_exactly_the_planned_requests(server: ServerProcess, tmp_path: Path) -> None:
    load = {"users": 8, "requests": 100, "warm_up": 20, "wait_s": (0, 0.05)}
    result = run_load(server.url, "locust", output=tmp_path, **load, **MIXED)
    check_rows(result, seen(server.url))
    assert sum(row["phase"] == "warm_up" for row in result.rows) == 20
    assert "s3cret" not in "".join(path.read_text() for path in tmp_path.iterdir())


@pytest.mark.slow
def test_a_timeout_is_a_row(server: ServerProcess, tmp_path: Path) -> None:
    load = {"users": 4, "requests": 8, "wait_s": (0, 0), "timeout_s": 1, "messages": ["hang"], "customers": ["CUST001"]}
    result = run_load(server.url, "locust", output=tmp_path, **load)
    hung = [row for row in result.rows if row["kind"] == "chat"]
    assert len(result.rows) == 8
    assert hung
    assert {(row["status"], row["error"]) for row in hung} == {(0, "TimeoutError")}
    assert all(float(row["latency_ms"]) >= 1000 for row in hung)


@pytest.mark.slow
def test_without_warm_up_the_first_request_of_each_user_has_the_phase_opening(
    endpoint: ServerProcess, tmp_path: Path
) -> None:
    load = {"users": 8, "requests": 40, "wait_s": (0.01, 0.02)}
    result = run_load(endpoint.url, "locust", kind="health", output=tmp_path, **load, **ARGUMENTS)
    assert {row["kind"] for row in result.rows} == {"health"}
    assert sorted(str(row["phase"]) for row in result.rows) == 8 * ["opening"] + 32 * ["steady"]
