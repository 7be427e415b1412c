"""Loads against a real server: as many rows as requests, failures among them, and refusals that say why."""

import contextlib
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bankllm.errors import NotMeasured, ServerError, UsageError
from bankllm.loadtest import runner
from bankllm.loadtest.banking_users import read_rows
from bankllm.loadtest.load import COLUMNS, Driven, Load, Row
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server import ServerProcess
from bankllm.processes import free_port

APP = (sys.executable, str(Path(__file__).with_name("loadtest_app.py")))
needs_ab = pytest.mark.skipif(shutil.which("ab") is None, reason="no ab")


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(program=APP) as process:
        yield process


def seen(server: ServerProcess) -> list[dict[str, str]]:
    """What reached the server between the health checks that `run_load` begins and ends with."""
    return httpx.get(f"{server.url}/seen").json()[1:-1]


@contextlib.contextmanager
def once_under_way(server: ServerProcess, act: Callable[[], None]) -> Iterator[None]:
    """Does `act` when 20 requests have reached the server, however long the generator takes to start."""

    def wait() -> None:
        with httpx.Client() as client:
            while len(client.get(f"{server.url}/seen").json()) < 20:
                time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@needs_ab
def test_ab_sends_every_request_and_keeps_a_row_of_each(server: ServerProcess, tmp_path: Path) -> None:
    result = run_load(
        server.url, "ab", users=5, requests=60, messages=["hi"], customers=["CUST001"], token="s3cret", output=tmp_path
    )
    assert seen(server) == 60 * [
        {"kind": "chat", "authorization": "Bearer s3cret", "message": "hi", "customer_id": "CUST001"}
    ]
    assert len(result.rows) == 60
    assert all(list(row) == list(COLUMNS) for row in result.rows)
    assert {(row["driver"], row["kind"], row["status"], row["error"]) for row in result.rows} == {
        ("ab", "chat", "2xx", "")
    }
    assert min(float(row["sent_s"]) for row in result.rows) == 0
    assert result.invalid_because is None
    assert result.summary()["failed"] == 0
    assert result.generator_cpu_share is not None
    assert 0 <= result.generator_cpu_share <= 1
    assert "one body, sent every time" in result.limits


@needs_ab
def test_ab_cannot_say_which_replies_failed_so_the_load_is_invalid(server: ServerProcess, tmp_path: Path) -> None:
    result = run_load(server.url, "ab", users=2, requests=10, messages=["fail"], customers=["CUST001"], output=tmp_path)
    assert result.invalid_because == "ab does not say which rows went wrong, and counted {'non-2xx': 10}"
    assert result.summary()["failed"] == 10
    assert {row["error"] for row in result.rows} == {"unknown"}
    assert {row["status"] for row in result.rows} == {""}


@needs_ab
def test_ab_that_gives_up_is_an_error_with_its_own_words(server: ServerProcess, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"ab gave up and kept no rows(.|\n)*timeout"):
        run_load(
            server.url, users=1, requests=1, messages=["hang"], customers=["CUST001"], timeout_s=1, output=tmp_path
        )


@pytest.mark.slow
def test_locust_ends_after_exactly_so_many_requests_of_the_mix(server: ServerProcess, tmp_path: Path) -> None:
    result = run_load(
        server.url,
        "locust",
        users=8,
        requests=120,
        messages=["hi", "hello", "fail"],
        customers=["CUST001", "CUST002"],
        token="s3cret",
        wait_s=(0, 0.05),
        output=tmp_path,
    )
    arrived = seen(server)
    assert len(result.rows) == len(arrived) == 120
    assert all(list(row) == list(COLUMNS) for row in result.rows)
    for kind in ("chat", "health"):
        assert [row["kind"] for row in result.rows].count(kind) == [item["kind"] for item in arrived].count(kind) > 10
    chats = [item for item in arrived if item["kind"] == "chat"]
    assert {item["message"] for item in chats} == {"hi", "hello", "fail"}
    assert {item["customer_id"] for item in chats} == {"CUST001", "CUST002"}
    assert {item["authorization"] for item in chats} == {"Bearer s3cret"}
    assert result.errors == {"HTTP 503": sum(item["message"] == "fail" for item in chats)}
    assert all(float(row["sent_s"]) >= 0 and float(row["latency_ms"]) > 0 for row in result.rows)
    assert result.summary()["requests_per_s"] == 120 / result.seconds
    assert "s3cret" not in "".join(path.read_text() for path in tmp_path.iterdir())


@pytest.mark.slow
def test_a_time_out_is_a_row(server: ServerProcess, tmp_path: Path) -> None:
    result = run_load(
        server.url,
        "locust",
        users=4,
        requests=8,
        messages=["hang"],
        customers=["CUST001"],
        wait_s=(0, 0),
        timeout_s=1,
        output=tmp_path,
    )
    hung = [row for row in result.rows if row["kind"] == "chat"]
    assert len(result.rows) == 8
    assert hung
    assert {(row["status"], row["error"]) for row in hung} == {(0, "TimeoutError")}
    assert all(float(row["latency_ms"]) >= 1000 for row in hung)


def test_the_open_loop_sends_when_a_request_is_due_and_leaves_the_warm_up_out(
    server: ServerProcess, tmp_path: Path
) -> None:
    result = run_load(
        server.url,
        "open-loop",
        requests=150,
        warm_up=30,
        rate=300,
        kind="mix",
        messages=["hi", "fail"],
        customers=["CUST001", "CUST002"],
        token={"CUST001": "one", "CUST002": "two"},
        output=tmp_path,
    )
    assert len(result.rows) == 180
    assert len(result.measured) == 150
    assert all(list(row) == list(COLUMNS) for row in result.rows)
    for row in result.rows:
        assert float(row["sent_s"]) >= float(row["scheduled_s"])
        assert float(row["first_byte_s"]) <= float(row["done_s"])
        assert float(row["latency_ms"]) >= float(row["service_ms"]) > 0
    arrived = seen(server)
    chats = [item for item in arrived if item["kind"] == "chat"]
    assert len(arrived) == 180
    assert 20 < len(arrived) - len(chats) < 120
    assert {(item["customer_id"], item["authorization"]) for item in chats} == {
        ("CUST001", "Bearer one"),
        ("CUST002", "Bearer two"),
    }
    failed = [row for row in result.measured if row["error"]]
    assert result.errors == {"HTTP 503": len(failed)}
    assert failed
    summary = result.summary()
    assert (summary["rate"], summary["arrivals"], summary["warm_up"]) == (300, "poisson", 30)


def test_a_stalled_server_shows_in_the_open_loop_and_hides_from_one_that_waits(
    server: ServerProcess, tmp_path: Path
) -> None:
    """Requests go on becoming due while the server is frozen; by counts, so that a slow machine changes nothing."""
    rate, frozen_s = 100.0, 1.0

    def freeze(frozen: ServerProcess) -> None:
        os.kill(frozen.pid, signal.SIGSTOP)
        time.sleep(frozen_s)
        os.kill(frozen.pid, signal.SIGCONT)

    constant: dict[str, Any] = {"requests": 300, "rate": rate, "arrivals": "constant"}
    with once_under_way(server, lambda: freeze(server)):
        opened = run_load(server.url, "open-loop", output=tmp_path / "open", **ARGUMENTS, **constant)
    due_in_the_first_half = rate * frozen_s / 2
    assert due_in_the_first_half - 10 <= _longer_than(frozen_s / 2, opened.rows) <= due_in_the_first_half + 30

    paced: dict[str, Any] = {"users": 2, "requests": 150, "wait_s": (0.02, 0.02), "kind": "chat", "seed": 1}
    with ServerProcess(program=APP) as other, once_under_way(other, lambda: freeze(other)):
        closed = run_load(other.url, "locust", output=tmp_path / "closed", **ARGUMENTS, **paced)
    assert _longer_than(frozen_s / 2, closed.rows) <= 2


def _longer_than(seconds: float, rows: list[Row]) -> int:
    return sum(float(row["latency_ms"]) > 1000 * seconds for row in rows)


def test_a_server_that_dies_leaves_rows_and_an_invalid_load(server: ServerProcess, tmp_path: Path) -> None:
    with once_under_way(server, lambda: os.killpg(server.pid, signal.SIGKILL)):
        result = run_load(server.url, "open-loop", requests=2000, rate=200, output=tmp_path, **ARGUMENTS)
    assert [row for row in result.rows if row["status"] == 200]
    assert len(result.rows) < 2000
    assert "the server was not reached 200 times in a row" in str(result.invalid_because)


def test_what_does_not_speak_http_is_told_from_what_does_not_listen(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble() -> None:
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"220 mail.example.org ready\r\n")
            connection.close()

        threading.Thread(target=babble).start()
        with pytest.raises(ServerError, match="does not speak HTTP"):
            run_load(f"http://127.0.0.1:{listener.getsockname()[1]}", output=tmp_path, **ARGUMENTS)


def test_https_to_a_plain_port_is_a_tls_error(server: ServerProcess, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"TLS failed at https://.*Use http:// where the port is plain"):
        run_load(server.url.replace("http://", "https://"), output=tmp_path, **ARGUMENTS)


ARGUMENTS: dict[str, Any] = {"messages": ["hi"], "customers": ["CUST001"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://127.0.0.1"}, "'ftp://127.0.0.1' is not an HTTP address"),
        ({"url": "http://192.0.2.1:8000"}, r"192\.0\.2\.1 is not this machine.*allow_remote=True"),
        ({"url": "http://localhost.example.org"}, "is not this machine"),
        ({"driver": "wrk"}, "Unknown load driver 'wrk'. Expected one of: ab, locust, open-loop"),
        ({"users": 0}, "found users=0, requests=1000"),
        ({"users": 20, "requests": 10}, "a request for each; found users=20, requests=10"),
        ({"messages": []}, "Expected messages and customers; found 0 and 1"),
        ({"wait_s": (3, 1)}, r"found \(3, 1\)"),
        ({"rate": 10}, "ab is a closed loop: its users set the pace"),
        ({"driver": "open-loop"}, "An open loop needs a rate above 0 and up to 20,000 requests a second; found None"),
        ({"driver": "open-loop", "rate": 0}, "found 0"),
        ({"driver": "open-loop", "rate": float("nan")}, "found nan"),
        ({"driver": "open-loop", "rate": 1e9}, "found 1000000000.0"),
        ({"driver": "open-loop", "rate": 5, "requests": 0}, "found requests=0"),
        ({"kind": "mix"}, "ab asks one endpoint"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        run_load(**{"url": "http://127.0.0.1:9", "output": tmp_path / "load", **ARGUMENTS, **change})
    assert not (tmp_path / "load").exists()


def test_nothing_listening_is_said_before_any_tool_starts(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"Nothing answers at http://127\.0\.0\.1.*Start the server first"):
        run_load(f"http://127.0.0.1:{free_port()}", output=tmp_path / "load", **ARGUMENTS)
    assert not (tmp_path / "load").exists()


def test_without_ab_nothing_is_measured(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotMeasured, match=r"ab not found; install it \(apt-get install apache2-utils\)"):
        run_load(server.url, "ab", output=tmp_path, **ARGUMENTS)


def test_a_generator_at_its_limit_makes_the_load_invalid(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(load: Load, folder: Path) -> Driven:
        return Driven(
            rows=[], errors={}, seconds=1.0, generator_cpu_share=0.97, limits=(), invalid_because="3 rows are missing"
        )

    monkeypatch.setitem(runner.DRIVERS, "ab", busy)
    result = run_load(server.url, "ab", output=tmp_path, **ARGUMENTS)
    assert result.invalid_because == "3 rows are missing; the load generator was busy for 97% of a core, over 90%"


def test_a_row_cut_short_by_a_kill_is_left_out(tmp_path: Path) -> None:
    header = ",".join(COLUMNS) + "\n"
    whole = "locust,0,chat,steady,,0.5,,0.51,12.25,12.25,200,31,\n"
    (tmp_path / "rows.csv").write_text(header + whole + "locust,0,health,ste")
    [row] = read_rows(tmp_path / "rows.csv")
    assert list(row) == list(COLUMNS)
    assert (row["kind"], row["latency_ms"], row["status"], row["scheduled_s"]) == ("chat", 12.25, 200, "")
