"""Arguments that `run_load` rejects, and conditions that make a load invalid."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bankllm.errors import NotMeasured, ServerError, UsageError
from bankllm.loadtest import runner
from bankllm.loadtest.load import DriverResult, Load
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from bankllm.util.processes import free_port
from tests.support import SUPPORT

APP = (sys.executable, str(SUPPORT / "loadtest_app.py"))


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    with ServerProcess(program=APP) as process:
        yield process


ARGUMENTS: dict[str, Any] = {"messages": ["hi"], "customers": ["CUST001"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"url": "ftp://127.0.0.1"}, "'ftp://127.0.0.1' is not an HTTP address"),
        ({"url": "http://192.0.2.1:8000"}, r"192\.0\.2\.1 is not this machine.*allow_remote=True"),
        ({"url": "http://localhost.example.org"}, "is not this machine"),
        ({"driver": "wrk"}, "Unknown load driver 'wrk'. Expected one of: ab, locust, open-loop"),
        ({"users": 0}, "found users=0, requests=1000"),
        ({"users": 20, "requests": 10}, "at least 1 request per user; found users=20, requests=10"),
        ({"messages": []}, "Expected at least 1 message and 1 customer; found 0 messages and 1 customers"),
        ({"wait_s": (3, 1)}, r"found \(3, 1\)"),
        ({"requests": 0, "users": 0}, "found users=0, requests=0"),
        ({"warm_up": -1}, "found requests=1000, warm_up=-1"),
        ({"timeout_s": 0}, "Expected a timeout above 0 s; found 0"),
        ({"timeout_s": math.nan}, "found nan"),
        ({"kind": "mix"}, "ab sends requests to one endpoint, found kind mix"),
        ({"kind": "balance"}, "Unknown kind of load 'balance'. Expected one of: chat, health, mix"),
        ({"rate": 10}, "ab is a closed-loop driver and has no rate; found rate=10"),
        ({"driver": "open-loop"}, "An open loop needs a rate above 0 .* found None"),
        *(({"driver": "open-loop", "rate": rate}, f"found {rate}") for rate in (0, -5, math.nan, math.inf, 1e9)),
        ({"driver": "open-loop", "rate": 5, "requests": 0}, "found requests=0"),
        ({"driver": "open-loop", "rate": 5, "arrivals": "bursts"}, "Unknown arrivals 'bursts'"),
    ],
)
def test_invalid_arguments_are_rejected(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        run_load(**{"url": "http://127.0.0.1:9", "output": tmp_path / "load", **ARGUMENTS, **change})
    assert not (tmp_path / "load").exists()


def test_a_missing_server_is_an_error_before_any_tool_starts(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"No server answers at http://127\.0\.0\.1.*Start the server"):
        run_load(f"http://127.0.0.1:{free_port()}", output=tmp_path / "load", **ARGUMENTS)
    assert not (tmp_path / "load").exists()


def test_a_missing_ab_is_not_measured(server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotMeasured, match=r"ab not found; install it \(apt-get install apache2-utils\)"):
        run_load(server.url, "ab", output=tmp_path, **ARGUMENTS)


def test_a_generator_at_its_limit_makes_the_load_invalid(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(load: Load, folder: Path) -> DriverResult:
        return DriverResult(
            rows=[], errors={}, seconds=1.0, generator_cpu_share=0.97, limits=(), invalid_because="3 rows are missing"
        )

    monkeypatch.setitem(runner.DRIVERS, "ab", busy)
    result = run_load(server.url, "ab", output=tmp_path, **ARGUMENTS)
    assert result.invalid_because == "3 rows are missing; the load generator was busy for 97% of a core, over 90%"
