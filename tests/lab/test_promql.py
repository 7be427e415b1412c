"""PromQL queries: one row per series of a result, and the records made from the rows."""

from typing import cast

import pytest
from prometheus_client.samples import Sample

from bankllm.evidence.run import Run
from bankllm.lab.prometheus import PrometheusServer
from bankllm.lab.promql import FAILURES, LATENCY, measures, rates, run_queries

CHAT = "/api/v1/chat"


class FakePrometheus:
    """A fake Prometheus with known results. The tests of `deploy/` use a real one."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, float | None]] = []

    def query(self, promql: str, at: float | None = None) -> list[Sample]:
        self.calls.append((promql, at))
        if "histogram_quantile" in promql:
            return [Sample("", {"route": CHAT}, 10.0 * len(self.calls))]
        if "rate(" in promql:
            return [Sample("", {"route": CHAT}, 20.5), Sample("", {"route": "/health"}, 9.5)]
        if '"4.."' in promql:
            return [Sample("", {"route": CHAT, "status": "422"}, 3.0)]
        return [Sample("", {}, 0.0)]


def rows(prometheus: FakePrometheus) -> list[dict[str, object]]:
    calls = cast(PrometheusServer, prometheus)
    return [*run_queries(calls, LATENCY), *run_queries(calls, rates(6), at=99.5), *run_queries(calls, FAILURES)]


def test_each_series_of_a_result_is_a_row_with_its_unit() -> None:
    prometheus = FakePrometheus()
    results = rows(prometheus)
    assert [(row["question"], row["route"], row["status"]) for row in results] == [
        ("p50", CHAT, ""),
        ("p95", CHAT, ""),
        ("p99", CHAT, ""),
        ("rate", CHAT, ""),
        ("rate", "/health", ""),
        ("refused", CHAT, "422"),
        ("failed", "", ""),
    ]
    assert [(row["ms"], row["requests_per_s"], row["requests"]) for row in results] == [
        (10.0, "", ""),
        (20.0, "", ""),
        (30.0, "", ""),
        ("", 20.5, ""),
        ("", 9.5, ""),
        ("", "", 3.0),
        ("", "", 0.0),
    ]
    assert [at for _, at in prometheus.calls] == [None, None, None, 99.5, None, None]
    assert "[6s]" in str(results[3]["promql"])


@pytest.mark.parametrize(("chats", "invalid"), [(1000, set()), (200, {"p99"}), (10, {"p50", "p95", "p99"})])
def test_a_percentile_of_too_few_chats_is_recorded_as_invalid(run: Run, chats: int, invalid: set[str]) -> None:
    run.write_rows("promql", rows(FakePrometheus()))
    records = {record.id.removeprefix("telemetry.promql."): record for record in (
        run.measure(**measure) for measure in measures(chats)
    )}  # fmt: skip
    assert {name: record.value for name, record in records.items()} == {
        "p50_ms": 10.0,
        "p95_ms": 20.0,
        "p99_ms": 30.0,
        "rate": 20.5,
        "failed": 0.0,
    }
    assert {name.removesuffix("_ms") for name, record in records.items() if not record.valid} == invalid
    if "p99" in invalid:
        assert records["p99_ms"].invalid_because == f"p99 needs 662 samples, there are {chats}"
