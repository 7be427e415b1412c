"""The first queries of an on-call engineer, in PromQL: latency, request rate and failures per route.

rows = [*run_queries(prometheus, LATENCY), *run_queries(prometheus, rates(60), at=ended)]
run.write_rows("promql", rows)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bankllm.evidence.statistics.registry import samples_needed
from bankllm.lab.prometheus import PrometheusServer

Column = Literal["ms", "requests_per_s", "requests"]
CHAT = 'route="/api/v1/chat"'
CUSTOMERS = 'route!~"/health.*|/metrics"'
"""Selector without the monitoring routes, whose requests are fast and frequent."""
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Query:
    """A named PromQL query; `column` is the column (the unit) of its values."""

    name: str
    promql: str
    column: Column


LATENCY = tuple(
    Query(
        name,
        f"1000 * histogram_quantile({q}, sum by (route, le) (http_request_duration_seconds_bucket{{{CHAT}}}))",
        "ms",
    )
    for name, q in QUANTILES.items()
)
"""Latency over all requests since the start. For a server that runs for days, put `rate(…[5m])` around the series."""

FAILURES = (
    Query("refused", f'sum by (route, status) (http_requests_total{{{CUSTOMERS}, status=~"4.."}})', "requests"),
    Query("failed", f'sum(http_requests_total{{{CUSTOMERS}, status=~"5.."}}) or vector(0)', "requests"),
)


def rates(window_s: int) -> tuple[Query, ...]:
    """Return the query for requests per second by route, over the last `window_s` seconds."""
    promql = f"sum by (route) (rate(http_request_duration_seconds_count[{window_s}s]))"
    return (Query("rate", promql, "requests_per_s"),)


def run_queries(
    prometheus: PrometheusServer, queries: Sequence[Query], at: float | None = None
) -> list[dict[str, Any]]:
    """Run queries and return one row per series: `question` (the name), `route`, `status`, the value, `promql`.

    The value is in the column of the query; the other value columns are empty. `at` is a Unix time, by default now.
    Raises the errors of `PrometheusServer.query`.
    """
    return [
        {
            "question": query.name,
            "route": sample.labels.get("route", ""),
            "status": sample.labels.get("status", ""),
            **{column: sample.value if column == query.column else "" for column in get_args(Column)},
            "promql": query.promql,
        }
        for query in queries
        for sample in prometheus.query(query.promql, at)
    ]


def measures(chats: int, raw: str = "promql") -> Iterator[dict[str, Any]]:
    """Yield the records of the results as keyword arguments of `evidence.run.Run.measure`.

    `chats` is the number of chats, which decides whether a percentile has enough samples.
    """
    for name, q in QUANTILES.items():
        few = f"{name} needs {samples_needed(q)} samples, there are {chats}" if chats < samples_needed(q) else None
        record = {"id": f"telemetry.promql.{name}_ms", "title": f"Chat, through Prometheus, {name}", "unit": "ms"}
        yield {**record, **_single(raw, "ms", question=name), "invalid_because": few}
    record = {"id": "telemetry.promql.rate", "title": "Chats a second, through Prometheus", "unit": "requests/s"}
    yield {**record, **_single(raw, "requests_per_s", question="rate", route="/api/v1/chat")}
    record = {"id": "telemetry.promql.failed", "title": "Requests that failed (5xx), through Prometheus"}
    yield {**record, "unit": "requests", **_single(raw, "requests", question="failed")}


def _single(raw: str, column: Column, **where: str) -> dict[str, Any]:
    return {"statistic": "single", "raw": raw, "column": column, "where": where}
