"""PromQL queries: one row per series of a result, and the records made from the rows."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.samples import Sample

from bankllm.evidence.run import Run
from bankllm.lab.promql import FAILURES, LATENCY, measures, rates, run_queries

CHAT = "/api/v1/chat"
RESULTS = {
    "(0.5,": [Sample("", {"route": CHAT}, 10.0)],
    "(0.95,": [Sample("", {"route": CHAT}, 20.0)],
    "(0.99,": [Sample("", {"route": CHAT}, 30.0)],
    "[6s]": [Sample("", {"route": CHAT}, 20.5), Sample("", {"route": "/health"}, 9.5)],
    '"4.."': [Sample("", {"route": CHAT, "status": "422"}, 3.0)],
    '"5.."': [Sample("", {}, 0.0)],
}
"""What tells a query → its result. The tests of `deploy/` use a real Prometheus."""


def ask(promql: str, at: float | None = None) -> list[Sample]:
    assert (at == 99.5) == ("[6s]" in promql)
    return next(result for part, result in RESULTS.items() if part in promql)


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    server: Any = SimpleNamespace(query=ask)
    return [*run_queries(server, LATENCY), *run_queries(server, rates(6), at=99.5), *run_queries(server, FAILURES)]


def test_each_series_of_a_result_is_a_row_with_its_unit(rows: list[dict[str, Any]]) -> None:
    columns = ("question", "route", "status", "ms", "requests_per_s", "requests")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("p50", CHAT, "", 10.0, "", ""),
        ("p95", CHAT, "", 20.0, "", ""),
        ("p99", CHAT, "", 30.0, "", ""),
        ("rate", CHAT, "", "", 20.5, ""),
        ("rate", "/health", "", "", 9.5, ""),
        ("refused", CHAT, "422", "", "", 3.0),
        ("failed", "", "", "", "", 0.0),
    ]


@pytest.mark.parametrize(("chats", "invalid"), [(1000, set()), (200, {"p99_ms"}), (10, {"p50_ms", "p95_ms", "p99_ms"})])
def test_a_percentile_of_too_few_chats_is_recorded_as_invalid(
    run: Run, rows: list[dict[str, Any]], chats: int, invalid: set[str]
) -> None:
    run.write_rows("promql", rows)
    records = {record.id.split(".")[-1]: record for record in (run.measure(**each) for each in measures(chats))}
    values = {"p50_ms": 10.0, "p95_ms": 20.0, "p99_ms": 30.0, "rate": 20.5, "failed": 0.0}
    assert {name: record.value for name, record in records.items()} == values
    assert {name for name, record in records.items() if not record.valid} == invalid
    if "p99_ms" in invalid:
        assert records["p99_ms"].invalid_because == f"p99 needs 662 samples, there are {chats}"
