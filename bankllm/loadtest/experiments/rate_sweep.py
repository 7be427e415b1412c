"""Rate sweep: find the knee, the highest offered rate at which the server keeps its latency objective.

A closed loop slows down with the server, so it could not offer more than the server sustains. The statistic `knee` in
`evidence.statistics.rates` defines the knee and computes it from the rows.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from bankllm.evidence.statistics.rates import goodput, knee, throughput
from bankllm.evidence.statistics.statistic import Rows
from bankllm.loadtest.load import LoadResult, RequestRow, estimate

OBJECTIVE_MS = 500
"""Latency objective: the largest acceptable p95, in ms."""
MIN_REQUESTS, MAX_REQUESTS = 150, 10_000
"""Requests per step: slightly more than a p95 needs (`samples_needed`), and a raw file that is not too large."""
CLOSE = 1.1
"""A sweep ends when the lowest rate that was not sustained is at most this multiple of a sustained rate."""
TIMES = {"start": "scheduled_s", "end": "done_s"}
SERVED: dict[str, Any] = {**TIMES, "latency": "latency_ms", "error": "error", "objective_ms": OBJECTIVE_MS}
"""Arguments of the statistic `goodput` for the rows of a sweep; the statistic `knee` also needs `offered`."""
MODEL_SERVED: dict[str, Any] = {**SERVED, "objective_ms": 2000, "first": "ttft_ms", "first_objective_ms": 1000}
"""The same for streamed replies: the first word within 1 s, and the whole reply within 2 s."""
NOT_DEGRADED: dict[str, Any] = {"column": "degraded", "equals": "no", "least_share": 0.9}
"""Arguments of the statistic `share_knee`: up to its knee, the language model has time for 90 % of the chats that need
it; beyond it, rules and the template take its place."""
KEPT_COLUMNS = (
    *("scheduled_s", "sent_s", "done_s", "latency_ms", "ttft_ms", "service_ms", "error", "tokens"),
    *("served_by", "fallback", "degraded", "asked", "answer"),
)
"""Columns of `load.COLUMNS` in the raw file of a sweep; their times count from the start of the step."""


@dataclass(frozen=True)
class Step:
    """The result of one offered rate, in requests per second."""

    rate: float
    result: LoadResult

    @cached_property
    def rows(self) -> list[RequestRow]:
        return self.result.measured

    def percentile_ms(self, q: float) -> float:
        """Return a percentile of the latency in ms; nan if there are too few rows."""
        value = estimate(self.rows, q).value
        return math.nan if value is None else value

    @cached_property
    def achieved(self) -> float:
        """Replies per second, from the first due time to the last reply."""
        return throughput(cast(Rows, self.rows), **TIMES).value or 0.0

    @cached_property
    def goodput(self) -> float:
        """Replies per second without an error and within the objective."""
        return goodput(cast(Rows, self.rows), **SERVED).value or 0.0

    @cached_property
    def sustained(self) -> bool:
        """Whether the server sustained this rate, by the rule of the statistic `knee`."""
        return self.result.invalid_because is None and knee_of([self]) is not None

    def summary(self) -> dict[str, object]:
        return {
            "offered/s": self.rate,
            "achieved/s": self.achieved,
            "goodput/s": self.goodput,
            "p50 ms": self.percentile_ms(0.5),
            "p95 ms": self.percentile_ms(0.95),
            "errors": sum(self.result.errors.values()),
            "requests": len(self.rows),
            "sustained": "not judged" if self.result.invalid_because else self.sustained,
        }


def sweep(
    offer: Callable[..., LoadResult], *, first_rate: float, step_s: float, max_steps: int, max_s: float
) -> list[Step]:
    """Offer the rates that `next_rate` selects, and return one step per rate in that order.

    `offer` runs an open-loop load; it takes the keywords `rate`, `requests` and `warm_up`. A step lasts `step_s`
    seconds, within the limits of its number of requests. No step starts later than `max_s` seconds after the first.
    """
    began = time.monotonic()
    steps: list[Step] = []
    rate: float | None = first_rate
    while rate is not None and len(steps) < max_steps and time.monotonic() - began < max_s:
        requests = max(MIN_REQUESTS, min(MAX_REQUESTS, math.ceil(rate * step_s)))
        # Little's law: this many requests are in flight when the latency equals the objective.
        warm_up = max(10, math.ceil(rate * OBJECTIVE_MS / 1000))
        steps.append(Step(rate, offer(rate=rate, requests=requests, warm_up=warm_up)))
        rate = next_rate(steps)
    return steps


def curve(offer: Callable[..., LoadResult], rates: Sequence[float], *, step_s: float, requests: int) -> list[Step]:
    """Offer each rate for `step_s` seconds, with at least that many requests; `offer` is as in `sweep`."""
    return [Step(rate, offer(rate=rate, requests=max(requests, math.ceil(rate * step_s)), warm_up=0)) for rate in rates]


def quality(steps: Sequence[Step]) -> Iterator[dict[str, object]]:
    """Yield the summary of each step, with shares of its chats and of its questions, and the time to the first word."""
    for step in steps:
        answers = [row["answer"] for row in step.rows if row["asked"] == "question"]
        answered = [row for row in step.rows if not row["error"]]
        in_time = goodput(cast(Rows, step.rows), **MODEL_SERVED).value or 0.0
        yield {
            "by the model": sum(row["served_by"] == "model" for row in step.rows) / len(step.rows),
            "in time": in_time / step.achieved if step.achieved else math.nan,
            **{answer: answers.count(answer) / max(1, len(answers)) for answer in ("right", "wrong", "asked back")},
            "first word p50 ms": estimate(answered, 0.5, "ttft_ms").value,
            **step.summary(),
        }


def next_rate(steps: Sequence[Step]) -> float | None:
    """Return the next rate in requests per second; None if the knee is close enough.

    The rate doubles until the server cannot sustain it, or is halved until it can; then bisection follows.
    """
    too_much = min((step.rate for step in steps if not step.sustained), default=math.inf)
    sustained = max((step.rate for step in steps if step.rate < too_much), default=0.0)
    if math.isinf(too_much):
        return 2 * sustained
    if not sustained:
        return too_much / 2
    return None if too_much <= CLOSE * sustained else round(math.sqrt(sustained * too_much), 1)


def rows_of(steps: Sequence[Step], name: str) -> Iterator[dict[str, object]]:
    """Yield the raw rows of a sweep, sorted by rate. `judged` is no if the load generator could not keep the rate."""
    for step in sorted(steps, key=lambda step: step.rate):
        about = {
            "sweep": name,
            "offered_per_s": float(step.rate),
            "judged": "no" if step.result.invalid_because else "yes",
        }
        for row in step.rows:
            yield about | {column: row[column] for column in KEPT_COLUMNS}


def piece_rows(steps: Sequence[Step], name: str) -> Iterator[dict[str, object]]:
    """Yield the rows of the pieces of streamed replies, with the columns `sweep` and `offered_per_s`."""
    for step in steps:
        for piece in step.result.pieces:
            yield {"sweep": name, "offered_per_s": float(step.rate), **piece}


def knee_of(steps: Sequence[Step]) -> float | None:
    """Return the highest sustained rate below the lowest rate that was not sustained; None if there is none."""
    judged = [row for row in rows_of(steps, "") if row["judged"] == "yes"]
    return knee(cast(Rows, judged), "offered_per_s", **SERVED).value if judged else None
