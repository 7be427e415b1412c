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
"""Not those who watch the service: their requests are quick and many."""
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Question:
    """A question and its PromQL; `column` is what the answer is measured in."""

    name: str
    promql: str
    column: Column


LATENCY = tuple(
    Question(
        name,
        f"1000 * histogram_quantile({q}, sum by (route, le) (http_request_duration_seconds_bucket{{{CHAT}}}))",
        "ms",
    )
    for name, q in QUANTILES.items()
)
"""Over all that the server has answered. On one that runs for days, `rate(…[5m])` stands around the series."""

FAILURES = (
    Question("refused", f'sum by (route, status) (http_requests_total{{{CUSTOMERS}, status=~"4.."}})', "requests"),
    Question("failed", f'sum(http_requests_total{{{CUSTOMERS}, status=~"5.."}}) or vector(0)', "requests"),
)


def rates(window_s: int) -> tuple[Question, ...]:
    """Requests a second by route, over the last `window_s` seconds."""
    promql = f"sum by (route) (rate(http_request_duration_seconds_count[{window_s}s]))"
    return (Question("rate", promql, "requests_per_s"),)


def run_queries(
    prometheus: PrometheusServer, questions: Sequence[Question], at: float | None = None
) -> list[dict[str, Any]]:
    """One row for each series of an answer: `question`, `route`, `status`, the value in its column, `promql`.

    `at` is a Unix time; left out, now. Raises what `PrometheusServer.query` raises.
    """
    return [
        {
            "question": question.name,
            "route": sample.labels.get("route", ""),
            "status": sample.labels.get("status", ""),
            **{column: sample.value if column == question.column else "" for column in get_args(Column)},
            "promql": question.promql,
        }
        for question in questions
        for sample in prometheus.query(question.promql, at)
    ]


def measures(chats: int, raw: str = "promql") -> Iterator[dict[str, Any]]:
    """What is recorded of the answers, as keyword arguments of `evidence.run.Run.measure`; `chats` were counted."""
    for name, q in QUANTILES.items():
        few = f"{name} needs {samples_needed(q)} samples, there are {chats}" if chats < samples_needed(q) else None
        about = {"id": f"telemetry.promql.{name}_ms", "title": f"Chat, through Prometheus, {name}", "unit": "ms"}
        yield {**about, **_single(raw, "ms", question=name), "invalid_because": few}
    about = {"id": "telemetry.promql.rate", "title": "Chats a second, through Prometheus", "unit": "requests/s"}
    yield {**about, **_single(raw, "requests_per_s", question="rate", route="/api/v1/chat")}
    about = {"id": "telemetry.promql.failed", "title": "Requests that failed (5xx), through Prometheus"}
    yield {**about, "unit": "requests", **_single(raw, "requests", question="failed")}


def _single(raw: str, column: Column, **where: str) -> dict[str, Any]:
    return {"statistic": "single", "raw": raw, "column": column, "where": where}
