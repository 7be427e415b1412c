"""The open loop: planned rows, sent at their due times; a stall shows in all requests that were due during it."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bankllm.evidence.statistics.registry import samples_needed
from bankllm.loadtest.drivers.open_loop import lateness_fault
from bankllm.loadtest.experiments.sequential import time_requests
from bankllm.loadtest.load import COLUMNS, RequestRow, row
from bankllm.loadtest.runner import LoadResult, run_load
from bankllm.loadtest.server_process import ServerProcess
from tests.support import SUPPORT

APP = (sys.executable, str(SUPPORT / "loadtest_app.py"))
ENDPOINT = (sys.executable, str(SUPPORT / "null_endpoint.py"))


@pytest.fixture
def endpoint() -> Iterator[ServerProcess]:
    with ServerProcess(program=ENDPOINT) as process:
        yield process


@pytest.mark.slow
def test_every_request_of_the_mix_is_a_row_with_the_token_of_its_customer(tmp_path: Path) -> None:
    with ServerProcess(program=APP) as server:
        result = run_load(
            server.url,
            "open-loop",
            messages=["hi", "hello", "fail"],
            customers=["CUST001", "CUST002"],
            token={"CUST001": "one", "CUST002": "two"},
            kind="mix",
            requests=300,
            warm_up=40,
            rate=400,
            output=tmp_path,
        )
        arrived = httpx.get(f"{server.url}/seen").json()[1:-1]  # without the health checks before and after
    assert len(arrived) == len(result.rows) == 340
    assert all(list(each) == list(COLUMNS) for each in result.rows)
    assert [each["phase"] for each in result.rows] == 40 * ["warm_up"] + 300 * ["steady"]
    chats = [each for each in arrived if each["kind"] == "chat"]
    assert {(each["customer_id"], each["authorization"]) for each in chats} == {
        ("CUST001", "Bearer one"),
        ("CUST002", "Bearer two"),
    }
    assert {each["message"] for each in chats} == {"hi", "hello", "fail"}
    assert 0.2 < sum(each["kind"] == "health" for each in result.rows) / 340 < 0.46  # a third, within 5 sigma
    assert result.errors == {"HTTP 503": sum(each["status"] == 503 for each in result.measured)}
    assert sum(each["status"] == 503 for each in result.rows) == sum(each["message"] == "fail" for each in chats)
    for each in result.rows:
        assert (
            float(each["scheduled_s"]) <= float(each["sent_s"]) < float(each["first_byte_s"]) <= float(each["done_s"])
        )
        assert each["latency_ms"] == 1000 * (float(each["done_s"]) - float(each["scheduled_s"]))
        assert each["service_ms"] == 1000 * (float(each["done_s"]) - float(each["sent_s"]))
        assert each["bytes"] == len('{"reply":"hi"}') or each["kind"] == "health" or each["bytes"] in (16, 17)
    assert result.summary()["requests"] == 300
    assert result.summary()["warm_up"] == 40
    assert (result.users, result.rate, result.arrivals) == (0, 400, "poisson")
    assert "Bearer" not in "".join(path.read_text() for path in tmp_path.iterdir())
    assert '"one"' not in "".join(path.read_text() for path in tmp_path.iterdir())


@pytest.mark.slow
def test_a_timeout_is_a_row_and_delays_no_other_request(tmp_path: Path) -> None:
    with ServerProcess(program=APP) as server:
        result = run_load(
            server.url,
            "open-loop",
            messages=["hang", "hi"],
            customers=["CUST001"],
            requests=40,
            rate=40,
            timeout_s=1,
            output=tmp_path,
        )
    hung = [each for each in result.rows if each["error"]]
    assert {(each["status"], each["error"]) for each in hung} == {(0, "TimeoutError")}
    assert all(
        998 <= float(each["service_ms"]) < 3000 for each in hung
    )  # the timers of the loop have a resolution of 1 ms
    answered = [each for each in result.rows if not each["error"]]
    assert len(answered) + len(hung) == 40
    assert len(answered) > 5
    assert result.errors == {"TimeoutError": len(hung)}


@pytest.mark.slow
def test_a_stall_shows_in_the_open_loop_but_not_in_the_closed_loop(endpoint: ServerProcess, tmp_path: Path) -> None:
    rate, requests = 200, 1000
    results: list[LoadResult] = []

    def open_loop() -> None:
        load = {"rate": rate, "requests": requests, "arrivals": "constant"}
        results.append(
            run_load(endpoint.url, "open-loop", messages=["hi"], customers=["CUST001"], output=tmp_path, **load)
        )

    frozen_s = freeze_during(open_loop, endpoint, after=200)
    rows = results[0].measured
    assert len(rows) == requests

    def slower(than_s: float) -> int:
        return sum(float(each["latency_ms"]) > 1000 * than_s for each in rows)

    # A request due t seconds after the start of the stall waits frozen_s - t; due times are 1 / rate apart.
    for share in (0.25, 0.5, 0.75):
        due = rate * frozen_s * (1 - share)
        assert abs(slower(share * frozen_s) - due) <= 0.05 * rate * frozen_s
    p99 = frozen_s - 0.01 * requests / rate
    assert slower(0.95 * p99) >= 0.01 * requests > slower(1.05 * p99)

    closed: list[dict[str, object]] = []
    frozen_s = freeze_during(
        lambda: closed.extend(time_requests(endpoint.url, ["hi"], ["CUST001"], requests=4000)), endpoint, after=400
    )
    caught = [each for each in closed if float(str(each["latency_ms"])) > 500 * frozen_s]
    assert len(caught) == 1  # of 4,000: far from the 99th percentile


def freeze_during(work, server: ServerProcess, after: int) -> float:
    """Suspend a server for one second after `after` more requests; return the length of the stall in s."""
    thread = threading.Thread(target=work)
    before = seen(server)
    thread.start()
    while seen(server) < before + after:
        assert thread.is_alive()
        time.sleep(0.01)
    began = time.monotonic()
    os.kill(server.pid, signal.SIGSTOP)
    try:
        time.sleep(1)
    finally:
        os.kill(server.pid, signal.SIGCONT)
    frozen_s = time.monotonic() - began
    thread.join()
    return frozen_s


def seen(server: ServerProcess) -> int:
    return int(httpx.get(f"{server.url}/seen", trust_env=False).text)


def sent_late(late_ms: float, latency_ms: float, n: int = 700) -> list[RequestRow]:
    due = 1.0
    done = due + latency_ms / 1000
    one = row("open-loop", 0, "chat", "steady", due, due + late_ms / 1000, done, done, latency_ms, 1.0, 200, 5, "")
    return [one] * n


def test_late_sends_make_the_load_invalid() -> None:
    assert lateness_fault(sent_late(1.9, 4)) is None
    assert lateness_fault(sent_late(3, 31)) is None  # less than a tenth of the latency
    fault = lateness_fault(sent_late(3, 20))
    assert fault is not None
    assert "sent 3.0 ms after they were due at p99, over 2 ms and a tenth of the latency (20.0 ms)" in fault
    assert lateness_fault(sent_late(3, 20, n=samples_needed(0.99) - 1)) is None
    assert lateness_fault(sent_late(3, 20, n=samples_needed(0.99))) is not None
    assert lateness_fault([]) is None
