"""What the command line says of a load, and that its figures come from the file of the rows."""

import csv
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from bankllm.errors import RunError, UsageError
from bankllm.loadtest.report import drive
from bankllm.loadtest.runner import LoadResult
from bankllm.loadtest.server import ServerProcess
from bankllm.settings import get_settings

APP = (sys.executable, str(Path(__file__).with_name("loadtest_app.py")))


@pytest.mark.skipif(shutil.which("ab") is None, reason="no ab")
def test_a_load_is_told_in_lines_and_kept_in_rows(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    with ServerProcess(program=APP) as server:
        lines = list(drive(rows, url=server.url, driver="ab", users=2, requests=40, settings=get_settings()))
    assert re.fullmatch(r"ab, 2 users, closed loop: 40 requests in \d+\.\d s, [\d.]+ a second", lines[0])
    assert lines[1] == "failed: 0"
    with rows.open(newline="") as file:
        latencies = sorted(int(row["latency_ms"]) for row in csv.DictReader(file))
    assert len(latencies) == 40
    assert lines[2].startswith(
        f"chat: p50 {latencies[19]:.1f} ms, p95 not measured (p95 needs 130 samples, there are 40)"
    )
    assert "limits: one body, sent every time" in lines[4]


def test_an_open_load_shows_what_waiting_users_saw_and_what_a_tool_would_show(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    load = {"driver": "open-loop", "users": 1, "requests": 140, "rate": 200.0, "warm_up": 20, "kind": "health"}
    with ServerProcess(program=APP) as server:
        lines = list(drive(rows, url=server.url, settings=get_settings(), **load))  # type: ignore[arg-type]
    assert lines[0].startswith("open-loop, 200 due a second, open loop: 140 requests in ")
    assert re.match(r"health, steady: p50 [\d.]+ ms, p95 [\d.]+ ms, p99 not measured", lines[2])
    assert lines[3].startswith("health, steady, not counting the wait before sending: p50 ")
    assert len(rows.read_text().splitlines()) == 1 + 160


@pytest.mark.slow
def test_ctrl_c_keeps_the_rows_and_leaves_no_process(tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    with ServerProcess(program=APP) as server:
        load = ["--driver", "open-loop", "--rate", "50", "--requests", "5000", "--url", server.url]
        command = [sys.executable, "-m", "bankllm", "loadtest", str(rows), *load]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while len(httpx.get(f"{server.url}/seen").json()) < 20:
            assert child.poll() is None
            time.sleep(0.1)
        generators = psutil.Process(child.pid).children(recursive=True)
        assert generators
        child.send_signal(signal.SIGINT)
        said, errors = child.communicate(timeout=30)
    assert child.returncode == 130, errors
    kept = rows.read_text().splitlines()
    assert f"Interrupted: {len(kept) - 1:,} rows are in {rows}." in said
    assert 10 < len(kept) < 5000
    assert not [process for process in generators if process.is_running()]


def test_an_invalid_load_keeps_its_rows_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row: dict[str, str | int | float] = {
        "kind": "chat",
        "phase": "steady",
        "sent_s": 0.0,
        "latency_ms": 5.0,
        "error": "HTTP 503",
    }
    result = LoadResult(
        "locust", [row], {"HTTP 503": 1}, 1, None, 0.5, None, ("none",), "Locust ended after 1 of 20 requests"
    )
    monkeypatch.setattr("bankllm.loadtest.report.run_load", lambda *_, **__: result)
    lines = drive(
        tmp_path / "rows.csv", url="http://127.0.0.1:1", driver="locust", users=1, requests=20, settings=get_settings()
    )
    said: list[str] = []
    with pytest.raises(RunError, match=r"The load is invalid: Locust ended after 1 of 20 requests\. Its 1 rows are in"):
        said.extend(lines)
    assert said[1] == "failed: 1, 1 × HTTP 503"
    assert (tmp_path / "rows.csv").read_text() == "kind,phase,sent_s,latency_ms,error\nchat,steady,0.0,5.0,HTTP 503\n"


def test_an_unknown_driver_is_refused_before_a_server_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown load driver 'wrk'\. Expected one of: ab, locust, open-loop"):
        next(drive(tmp_path / "rows.csv", url=None, driver="wrk", users=1, requests=1, settings=get_settings()))
