"""The GuideLLM driver: rows from its report, and a real run where the tool is installed."""

import shutil
from pathlib import Path

import pytest

from bankllm.loadtest.drivers.guidellm_driver import read_report
from bankllm.loadtest.load import COLUMNS
from bankllm.loadtest.runner import run_load
from tests.support.live_server import bank

TIMES = {"targeted_start": 100.0, "request_start": 100.25, "first_token_iteration": 100.5, "token_iterations": 3}
TIMES |= {"last_token_iteration": 101.0, "request_end": 101.5}


def test_a_report_becomes_rows_and_pieces() -> None:
    failed = {"targeted_start": 101.0, "request_start": 101.0, "request_end": 101.25, "token_iterations": 0}
    requests = {"successful": [{"info": {"timings": TIMES}}], "errored": [{"info": {"timings": failed}}]}
    rows, pieces = read_report({"benchmarks": [{"requests": {**requests, "incomplete": None, "total": None}}]})
    assert [(row["error"], row["latency_ms"], row["service_ms"], row["ttft_ms"], row["tokens"]) for row in rows] == [
        ("", 1500, 1250, 500, 3),
        ("errored", 250, 250, "", 0),
    ]
    assert all(list(row) == list(COLUMNS) for row in rows)
    assert [(piece["place"], piece["since_sent_ms"], piece["gap_ms"]) for piece in pieces] == [
        ("first", 250, ""),
        ("later", 500, 250),
        ("later", 750, 250),
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("guidellm") is None, reason="no guidellm")
def test_guidellm_measures_the_streams_of_a_server(tmp_path: Path) -> None:
    load = {"messages": ["What is my balance?"], "customers": ["CUST001"], "rate": 5, "requests": 20}
    with bank(tmp_path) as server:
        result = run_load(server.url, "guidellm", output=tmp_path / "guidellm", arrivals="constant", **load)
    assert 15 <= len(result.rows) <= 20
    assert result.errors == {}
    assert all(0 < float(row["ttft_ms"]) <= float(row["latency_ms"]) for row in result.rows)
    assert len(result.pieces) == sum(int(row["tokens"]) for row in result.rows)
    assert result.limits[0].startswith("version ")
