"""The Locust driver: exactly the planned number of requests, drawn from the mix, each with its phase."""

from pathlib import Path

import pytest

from bankllm.loadtest.load import COLUMNS
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from tests.support.loadtest_app import seen


@pytest.mark.slow
def test_locust_sends_exactly_the_planned_requests_of_the_mix(server: ServerProcess, tmp_path: Path) -> None:
    result = run_load(
        server.url,
        "locust",
        users=8,
        requests=100,
        warm_up=20,
        messages=["hi", "hello", "fail"],
        customers=["CUST001", "CUST002"],
        token={"CUST001": "s3cret1", "CUST002": "s3cret2"},
        wait_s=(0, 0.05),
        output=tmp_path,
    )
    arrived = seen(server.url)
    assert len(result.rows) == len(arrived) == 120
    assert all(list(row) == list(COLUMNS) for row in result.rows)
    for kind in ("chat", "health"):
        assert [row["kind"] for row in result.rows].count(kind) == [item["kind"] for item in arrived].count(kind) > 10
    chats = [item for item in arrived if item["kind"] == "chat"]
    assert {item["message"] for item in chats} == {"hi", "hello", "fail"}
    assert {(item["customer_id"], item["authorization"]) for item in chats} == {
        ("CUST001", "Bearer s3cret1"),
        ("CUST002", "Bearer s3cret2"),
    }
    failed = [row for row in result.rows if row["error"]]
    assert {(row["status"], row["error"]) for row in failed} == {(503, "HTTP 503")}
    assert len(failed) == sum(item["message"] == "fail" for item in chats)
    assert result.errors == {"HTTP 503": sum(row["phase"] != "warm_up" for row in failed)}
    assert sum(row["phase"] == "warm_up" for row in result.rows) == 20
    assert all(
        row["done_s"] == pytest.approx(float(row["sent_s"]) + float(row["latency_ms"]) / 1000) for row in result.rows
    )
    assert all(float(row["sent_s"]) >= 0 and float(row["latency_ms"]) > 0 for row in result.rows)
    assert result.summary()["requests_per_s"] == 100 / result.seconds
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
    load = {"users": 8, "requests": 40, "wait_s": (0.01, 0.02), "messages": ["hi"], "customers": ["CUST001"]}
    result = run_load(endpoint.url, "locust", kind="health", output=tmp_path, **load)
    assert {row["kind"] for row in result.rows} == {"health"}
    assert sorted(str(row["phase"]) for row in result.rows) == 8 * ["opening"] + 32 * ["steady"]
