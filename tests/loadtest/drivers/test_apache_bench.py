"""The ab driver: one row per request, and a list of the values that ab does not report."""

import shutil
from pathlib import Path

import pytest

from bankllm.errors import ServerError
from bankllm.loadtest.drivers.apache_bench import ab_rows
from bankllm.loadtest.load import COLUMNS
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from tests.support.loadtest_app import ARGUMENTS, seen

needs_ab = pytest.mark.skipif(shutil.which("ab") is None, reason="no ab")


@needs_ab
def test_ab_sends_every_request_and_returns_one_row_per_request(server: ServerProcess, tmp_path: Path) -> None:
    load = {"users": 5, "requests": 60, "warm_up": 3, "tokens": {"CUST001": "s3cret"}}
    result = run_load(server.url, "ab", **load, output=tmp_path, **ARGUMENTS)
    assert seen(server.url) == 63 * [
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
    assert "the same body in every request" in result.limits


@needs_ab
def test_a_load_with_failures_is_invalid_because_ab_does_not_report_which_rows_failed(
    server: ServerProcess, tmp_path: Path
) -> None:
    result = run_load(server.url, "ab", users=2, requests=10, output=tmp_path, **ARGUMENTS | {"messages": ["fail"]})
    assert result.invalid_because == "ab does not say which rows went wrong, and counted {'non-2xx': 10}"
    assert result.summary()["failed"] == 10
    assert {row["error"] for row in result.rows} == {"unknown"}
    assert {row["status"] for row in result.rows} == {""}


@needs_ab
def test_an_early_end_of_ab_is_an_error_with_the_output_of_ab(server: ServerProcess, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"ab stopped early and wrote no rows(.|\n)*timeout"):
        run_load(server.url, users=1, requests=1, timeout_s=1, output=tmp_path, **ARGUMENTS | {"messages": ["hang"]})


def test_rows_are_sorted_by_the_second_in_which_they_were_sent(tmp_path: Path) -> None:
    lines = ["starttime\tseconds\tctime\tdtime\tttime\twait"]
    lines += [f"-\t{second}\t0\t{ms}\t{ms}\t{ms}" for second, ms in ((101, 3), (100, 4), (101, 5), (102, 9))]
    (tmp_path / "ab.tsv").write_text("\n".join(lines) + "\n")
    rows = ab_rows(tmp_path / "ab.tsv", "health", "2xx")
    assert [(each["sent_s"], each["latency_ms"]) for each in rows] == [(0, 4), (1, 3), (1, 5), (2, 9)]
    assert [each["done_s"] for each in rows] == [0.004, 1.003, 1.005, 2.009]
