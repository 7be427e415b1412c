"""Users without pauses and a real server: one row per request, with the stages that the server reports."""

from itertools import pairwise
from pathlib import Path

import pytest

from bankllm.errors import UsageError
from bankllm.loadtest.load import COLUMNS
from bankllm.loadtest.runner import run_load
from bankllm.loadtest.server_process import ServerProcess
from tests.support.loadtest_app import ARGUMENTS, seen


def test_each_request_is_sent_after_the_reply_to_the_one_before(server: ServerProcess, tmp_path: Path) -> None:
    load = {"messages": ["fine", "fail"], "customers": ["CUST001", "CUST002"], "users": 1}
    result = run_load(server.url, "sequential", requests=30, warm_up=5, output=tmp_path, **load)
    calls = seen(server.url)
    expected = [(200, "") if call["message"] == "fine" else (503, "HTTP 503") for call in calls]
    assert [(row["status"], row["error"]) for row in result.rows] == expected
    assert {status for status, _ in expected} == {200, 503}
    assert [row["phase"] for row in result.rows] == 5 * ["warm_up"] + 30 * ["steady"]
    for earlier, later in pairwise(result.rows):
        assert float(earlier["sent_s"]) <= float(earlier["done_s"]) <= float(later["sent_s"])
    assert all(list(row) == [*COLUMNS, "intent", "encode_ms"] for row in result.rows)
    stages = {(row["status"], row["intent"], row["encode_ms"]) for row in result.rows}
    assert stages == {(200, "greeting", 1.5), (503, "", "")}


def test_several_users_are_an_error(server: ServerProcess, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Expected 1 to 1 users .*; found 2"):
        run_load(server.url, "sequential", users=2, output=tmp_path, **ARGUMENTS)


def test_each_of_several_users_waits_for_the_reply(server: ServerProcess, tmp_path: Path) -> None:
    load = {"messages": ["hang"], "customers": ["CUST001"], "users": 4}
    result = run_load(server.url, "closed-loop", requests=8, output=tmp_path, **load)
    assert [row["status"] for row in result.rows] == 8 * [200]
    for row in result.rows:
        in_progress = [
            other for other in result.rows if float(other["sent_s"]) <= float(row["sent_s"]) < float(other["done_s"])
        ]
        assert len(in_progress) <= 4
    assert result.seconds < 8 * 3 / 2
    assert {row["encode_ms"] for row in result.rows} == {1.5}
