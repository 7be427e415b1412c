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
COLUMNS |= {"first words p50": "ms", "generated": "tokens", "fallbacks": "requests"}
"""Name of a query → the column (the unit) of its values."""
FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds"
LATENCY = {
    name: f"1000 * histogram_quantile({q}, sum by (route, le) (http_request_duration_seconds_bucket{{{CHAT}}}))"
    for name, q in QUANTILES.items()
}
"""Latency over all requests since the start. For a server that runs for days, put `rate(…[5m])` around the series."""
FAILURES = {
    "refused": f'sum by (route, status) (http_requests_total{{{CUSTOMERS}, status=~"4.."}})',
    "failed": f'sum(http_requests_total{{{CUSTOMERS}, status=~"5.."}}) or vector(0)',
}

MODEL = {
    "first words p50": "1000 * histogram_quantile(0.5, sum by (le) "
    f'({FIRST_TOKEN}_bucket{{gen_ai_operation_name="chat"}}))',
    "generated": 'sum(gen_ai_client_token_usage_sum{gen_ai_token_type="output"}) or vector(0)',
    "fallbacks": 'sum(bankllm_replies_total{fallback!~"none|abstained"}) or vector(0)',
}
"""What the language model adds: when the first words of a reply come, its tokens, and replies that it did not word."""


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
    titles = {name: f"Chat, through Prometheus, {name}" for name in QUANTILES}
    titles |= {"rate": "Chats a second, through Prometheus", "failed": "Requests that failed (5xx), through Prometheus"}
    for name, title in titles.items():
        needed, column = samples_needed(QUANTILES[name]) if name in QUANTILES else 0, COLUMNS[name]
        yield {
            "id": f"telemetry.promql.{name}{'_ms' if needed else ''}",
            "title": title,
            "unit": {"requests_per_s": "requests/s"}.get(column, column),
            "statistic": "single",
            "raw": "promql",
            "column": column,
            "where": {"question": name} | ({"route": "/api/v1/chat"} if name == "rate" else {}),
            "invalid_because": f"{name} needs {needed} samples, there are {chats}" if chats < needed else None,
        }
