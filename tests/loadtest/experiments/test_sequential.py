"""Sequential requests to a real server: one row per request, successful or not."""

from itertools import pairwise

import pytest

from bankllm.errors import ServerError
from bankllm.loadtest.experiments.sequential import WARM_UP, time_requests
from bankllm.loadtest.server_process import ServerProcess
from tests.support.loadtest_app import seen


def test_every_request_after_the_warm_up_is_a_row(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = time_requests(server.url, ["fine", "fail"], ["CUST001", "CUST002"], requests=30, seed=3)
    monkeypatch.setattr("bankllm.loadtest.experiments.sequential.TIMEOUT_S", 0.2)
    late = time_requests(server.url, ["hang"], ["CUST001"], requests=1)
    calls = [call for call in seen(server.url) if call["kind"] == "chat" and call["message"] != "hang"]
    assert len(rows) == 30
    assert len(calls) == 30 + WARM_UP
    expected = [(200, "") if call["message"] == "fine" else (503, "HTTP 503") for call in calls[WARM_UP:]]
    assert [(row["status"], row["error"]) for row in rows] == expected
    assert {status for status, _ in expected} == {200, 503}
    assert rows[0]["sent_s"] == 0
    for earlier, later in pairwise(rows):
        assert earlier["sent_s"] <= earlier["done_s"] <= later["sent_s"]
        assert earlier["latency_ms"] == pytest.approx(
            1000 * (float(earlier["done_s"]) - float(earlier["sent_s"])), abs=0.01
        )
    assert [(row["status"], row["error"]) for row in late] == [(0, "ReadTimeout")]


def test_a_missing_server_is_an_error() -> None:
    with pytest.raises(ServerError, match=r"No server answers at http://127\.0\.0\.1:9 .*bankllm serve"):
        time_requests("http://127.0.0.1:9", ["hi"], ["CUST001"], requests=1)
