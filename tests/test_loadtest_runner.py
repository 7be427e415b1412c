"""Loads against a real server: as many rows as requests, failures among them, and refusals that say why."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bankllm.errors import NotMeasured, ServerError, UsageError
from bankllm.loadtest import drivers, runner
from bankllm.loadtest.drivers import Driven, Load
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server import ServerProcess
from bankllm.processes import free_port

APP = (sys.executable, str(Path(__file__).with_name("loadtest_app.py")))
COLUMNS = ["driver", "worker", "kind", "sent_s", "latency_ms", "status", "bytes", "error"]
needs_ab = pytest.mark.skipif(shutil.which("ab") is None, reason="no ab")


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(program=APP) as process:
        yield process


def seen(server: ServerProcess) -> list[dict[str, str]]:
    """What reached the server after the health check that `run_load` begins with."""
    return httpx.get(f"{server.url}/seen").json()[1:]


@needs_ab
def test_ab_sends_every_request_and_keeps_a_row_of_each(server: ServerProcess, tmp_path: Path) -> None:
    result = run_load(
        server.url, "ab", users=5, requests=60, messages=["hi"], customers=["CUST001"], token="s3cret", output=tmp_path
    )
    assert seen(server) == 60 * [
        {"kind": "chat", "authorization": "Bearer s3cret", "message": "hi", "customer_id": "CUST001"}
    ]
    assert len(result.rows) == 60
    assert all(list(row) == COLUMNS for row in result.rows)
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
    assert all(list(row) == COLUMNS for row in result.rows)
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


ARGUMENTS: dict[str, Any] = {"messages": ["hi"], "customers": ["CUST001"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://127.0.0.1"}, "'ftp://127.0.0.1' is not an HTTP address"),
        ({"url": "http://192.0.2.1:8000"}, r"192\.0\.2\.1 is not this machine.*allow_remote=True"),
        ({"url": "http://localhost.example.org"}, "is not this machine"),
        ({"driver": "wrk"}, "Unknown load driver 'wrk'. Expected one of: ab, locust"),
        ({"users": 0}, "found users=0, requests=1000"),
        ({"users": 20, "requests": 10}, "a request for each; found users=20, requests=10"),
        ({"messages": []}, "Expected messages and customers; found 0 and 1"),
        ({"wait_s": (3, 1)}, r"found \(3, 1\)"),
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
    header = "kind,sent_s,latency_ms,status,bytes,error\n"
    (tmp_path / "locust.csv").write_text(
        header + "chat,0.5,12.25,200,31,\nhealth,0.6,1.5,0,0,ConnectionRefusedError\nchat,0."
    )
    whole = drivers._locust_rows(tmp_path / "locust.csv")
    assert [(row["kind"], row["latency_ms"], row["error"]) for row in whole] == [
        ("chat", 12.25, ""),
        ("health", 1.5, "ConnectionRefusedError"),
    ]
