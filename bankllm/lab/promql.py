"""The first queries of an on-call engineer, in PromQL: latency, request rate and failures per route."""

from collections.abc import Iterator, Mapping
from typing import Any

from bankllm.evidence.statistics.samples import samples_needed
from bankllm.lab.prometheus import PrometheusServer

CHAT = 'route="/api/v1/chat"'
CUSTOMERS = 'route!~"/health.*|/metrics"'
"""Selector without the monitoring routes, whose requests are fast and frequent."""
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
COLUMNS = {**dict.fromkeys(QUANTILES, "ms"), "rate": "requests_per_s", "refused": "requests", "failed": "requests"}
"""Name of a query → the column (the unit) of its values."""
LATENCY = {
    name: f"1000 * histogram_quantile({q}, sum by (route, le) (http_request_duration_seconds_bucket{{{CHAT}}}))"
    for name, q in QUANTILES.items()
}
"""Latency over all requests since the start. For a server that runs for days, put `rate(…[5m])` around the series."""
FAILURES = {
    "refused": f'sum by (route, status) (http_requests_total{{{CUSTOMERS}, status=~"4.."}})',
    "failed": f'sum(http_requests_total{{{CUSTOMERS}, status=~"5.."}}) or vector(0)',
}


def rates(window_s: int) -> dict[str, str]:
    """Requests per second by route, over the last `window_s` seconds."""
    return {"rate": f"sum by (route) (rate(http_request_duration_seconds_count[{window_s}s]))"}


def run_queries(
    prometheus: PrometheusServer, queries: Mapping[str, str], at: float | None = None
) -> list[dict[str, Any]]:
    """Run queries and return one row per series: `question` (the name), `route`, `status`, the value, `promql`.

    The value is in the column of the query; the other value columns are empty. `at` is as in `PrometheusServer.query`.
    """
    rows = []
    for name, promql in queries.items():
        for sample in prometheus.query(promql, at):
            row = {"question": name, "route": sample.labels.get("route", ""), "status": sample.labels.get("status", "")}
            rows.append(row | dict.fromkeys(COLUMNS.values(), "") | {COLUMNS[name]: sample.value, "promql": promql})
    return rows


def measures(chats: int) -> Iterator[dict[str, Any]]:
    """Yield keyword arguments of `Run.measure`; the number of chats decides whether a percentile has enough samples."""
    common: dict[str, Any] = {"statistic": "single", "raw": "promql"}
    for name, q in QUANTILES.items():
        few = f"{name} needs {samples_needed(q)} samples, there are {chats}" if chats < samples_needed(q) else None
        about = {"id": f"telemetry.promql.{name}_ms", "title": f"Chat, through Prometheus, {name}", "unit": "ms"}
        yield common | about | {"column": "ms", "where": {"question": name}, "invalid_because": few}
    about = {"id": "telemetry.promql.rate", "title": "Chats a second, through Prometheus", "unit": "requests/s"}
    where = {"question": "rate", "route": "/api/v1/chat"}
    yield common | about | {"column": "requests_per_s", "where": where}
    about = {"id": "telemetry.promql.failed", "title": "Requests that failed (5xx), through Prometheus"}
    yield common | about | {"unit": "requests", "column": "requests", "where": {"question": "failed"}}
