"""The printed summary of a load agrees with the file of rows; customers' tokens."""

import csv
import gzip
import re
import shutil
import time
from pathlib import Path

import jwt
import pytest
from pydantic import SecretStr

from bankllm.errors import RunError
from bankllm.loadtest.load import row
from bankllm.loadtest.report import drive, tokens
from bankllm.loadtest.server_process import ServerProcess
from bankllm.settings import get_settings
from tests.support.queue_model import result


@pytest.mark.skipif(shutil.which("ab") is None, reason="no ab")
def test_a_load_prints_a_summary_and_writes_its_rows(server: ServerProcess, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    lines = list(drive(rows, url=server.url, driver="ab", users=2, requests=40, settings=get_settings()))
    assert re.fullmatch(r"ab, closed loop, 2 users: 40 requests in \d+\.\d s, [\d.]+ per second", lines[0])
    assert lines[1] == "failed: 0"
    with rows.open(newline="") as file:
        latencies = sorted(int(row["latency_ms"]) for row in csv.DictReader(file))
    assert len(latencies) == 40
    assert lines[2].startswith(f"chat: p50 {latencies[19]:.1f} ms, p95 not measured (p95 needs 130 samples")
    assert "limits of ab: the same body in every request" in lines[4]
    assert lines[5] == f"40 rows were written to {rows}."


@pytest.mark.slow
def test_an_open_loop_prints_corrected_and_uncorrected_percentiles(server: ServerProcess, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv.gz"
    arguments = {"driver": "open-loop", "rate": 200.0, "requests": 150, "warm_up": 30, "settings": get_settings()}
    lines = list(drive(rows, url=server.url, **arguments))
    assert lines[0].startswith("open-loop, open loop, 200 requests per second offered (poisson): 150 requests in")
    assert lines[1] == "warm-up (not measured): 30 requests, 0 failed"
    assert re.match(r"chat, from due time: p50 [\d.]+ ms, p95 [\d.]+ ms, p99 not measured", lines[3])
    assert re.match(r"chat, from send time \(uncorrected\): p50 [\d.]+ ms", lines[4])
    with gzip.open(rows, "rt", newline="") as file:
        assert sum(row["phase"] == "steady" for row in csv.DictReader(file)) == 150


@pytest.mark.slow
def test_a_load_of_streams_says_who_answered_and_how_right(server: ServerProcess, tmp_path: Path) -> None:
    arguments = {"driver": "open-loop", "kind": "stream", "rate": 200.0, "requests": 150, "settings": get_settings()}
    lines = list(drive(tmp_path / "rows.csv", url=server.url, questions=True, **arguments))
    (first,) = (line for line in lines if line.startswith("stream, first word: p50 "))
    assert "p95" in first
    (wrong,) = (re.fullmatch(r"answer: (\d+) × wrong", line) for line in lines if line.startswith("answer: "))
    assert wrong is not None
    assert 75 <= int(wrong[1]) < 150
    assert "served_by: 150 × model" in lines


def test_an_invalid_load_writes_its_rows_and_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = row(0.0, 0.5, driver="locust", kind="chat", phase="steady", status=503, bytes=0, error="HTTP 503")
    ended = result("locust", [failed], invalid_because="Locust ended after 1 of 20 requests")
    monkeypatch.setattr("bankllm.loadtest.report.run_load", lambda *_, **__: ended)
    load = {"url": "http://127.0.0.1:1", "driver": "locust", "users": 1, "requests": 20}
    lines = drive(tmp_path / "rows.csv", **load, settings=get_settings())
    said: list[str] = []
    with pytest.raises(RunError, match=r"The load test is invalid; .*: Locust ended after 1 of 20 requests\. 1 rows"):
        said.extend(lines)
    assert said[1] == "failed: 1, 1 × HTTP 503"
    assert not any("p50" in line for line in said)
    assert (tmp_path / "rows.csv").read_text().splitlines()[1:] == [
        "locust,chat,steady,,0.0,,0.5,500.0,,500.0,503,0,HTTP 503,,,,,,"
    ]


def test_each_customer_has_a_token() -> None:
    assert tokens(get_settings(), ["CUST001"]) == {}
    secret = "k" * 40
    settings = get_settings().model_copy(update={"jwt_secret": SecretStr(secret)})
    by_customer = tokens(settings, ["CUST001", "CUST002"])
    assert by_customer is not None
    claims = [jwt.decode(by_customer[name], secret, algorithms=["HS256"], audience="bankllm") for name in by_customer]
    assert [each["sub"] for each in claims] == ["CUST001", "CUST002"]
    assert all(each["exp"] > time.time() + 3000 for each in claims)
