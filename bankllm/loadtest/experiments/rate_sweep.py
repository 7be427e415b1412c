"""Rate sweep: find the knee, the highest offered rate at which the server keeps its latency objective.

    steps = sweep(offer_to(server.url, kind="chat", ...), SweepPlan(first_rate=25, step_s=10, max_steps=9, max_s=120))
    run.write_rows("sweep", rows_of(steps, name="chat, 1 worker"))

All loads are open loops. A closed loop slows down with the server, so it cannot offer more than the server sustains.
The statistic `knee` in `evidence.statistics.registry` defines the knee and computes it from the rows.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from bankllm.evidence.statistics.registry import Rows, goodput, knee, percentile, throughput
from bankllm.loadtest.load import RequestKind, RequestRow, measured
from bankllm.loadtest.runner import LoadResult, run_load

OBJECTIVE_MS = 500
"""Latency objective: the largest acceptable p95, in ms."""
MAX_REQUESTS = 10_000
"""Largest number of requests per step; it limits the size of the raw file."""
MIN_REQUESTS = 150
"""Smallest number of requests per step: slightly more than a p95 needs (`samples_needed`)."""
TIMES = {"start": "scheduled_s", "end": "done_s"}
SERVED: dict[str, Any] = {**TIMES, "latency": "latency_ms", "error": "error", "objective_ms": OBJECTIVE_MS}
"""Arguments of the statistic `goodput` for the rows of a sweep; the statistic `knee` also needs `offered`."""
Offer = Callable[[float, int, int], LoadResult]
"""Runs an open-loop load; takes requests per second, the number of measured and the number of warm-up requests."""
SWEEP_COLUMNS = {
    "sweep": "name of the sweep, for example chat, 1 worker",
    "offered_per_s": "offered rate in requests per second",
    "judged": "yes; no if the load generator could not sustain the rate, so the step says nothing about the server",
    "scheduled_s": "time at which the request was due, in seconds since the start of its step",
    "sent_s": "time at which the request was sent, in seconds since the start of its step",
    "done_s": "time of the reply's last byte, or of the failure, in seconds since the start of its step",
    "latency_ms": "time that a user waits: from scheduled_s to done_s",
    "service_ms": "time from sent_s to done_s",
    "error": "empty on success, else the HTTP status or the name of the failure",
}
"""The columns of a sweep's raw file, and their meaning."""


@dataclass(frozen=True)
class SweepPlan:
    """First rate and limits of a sweep. The rate doubles until the server cannot sustain it, then bisection follows."""

    first_rate: float
    """First offered rate, in requests per second."""
    step_s: float
    """Duration of a step in s; low rates take longer and high rates less, within the limits of `requests`."""
    max_steps: int
    """Largest number of steps."""
    max_s: float
    """No step starts later than this many seconds after the start of the sweep."""
    close: float = 1.1
    """The sweep ends when the lowest rate that was not sustained is at most this multiple of a sustained rate."""

    def requests(self, rate: float) -> int:
        """Return the number of measured requests of a step, between `MIN_REQUESTS` and `MAX_REQUESTS`."""
        return max(MIN_REQUESTS, min(MAX_REQUESTS, math.ceil(rate * self.step_s)))


@dataclass(frozen=True)
class Step:
    """The result of one offered rate."""

    rate: float
    """Offered rate, in requests per second."""
    rows: Sequence[RequestRow]
    """The measured requests."""
    errors: int
    """Number of measured requests that failed."""
    invalid_because: str | None
    """Set if the generator, not the server, was at its limit."""

    @property
    def table(self) -> Rows:
        """The rows, typed as the statistics expect them."""
        return cast(Rows, self.rows)

    def percentile_ms(self, q: float, column: str = "latency_ms") -> float:
        """Return a percentile of `column` in ms; nan if there are too few rows."""
        value = percentile(self.table, column, q).value
        return math.nan if value is None else value

    @cached_property
    def achieved(self) -> float:
        """Replies per second, from the first due time to the last reply."""
        return throughput(self.table, **TIMES).value or 0.0

    @cached_property
    def goodput(self) -> float:
        """Replies per second without an error and within the objective."""
        return goodput(self.table, **SERVED).value or 0.0

    @cached_property
    def sustained(self) -> bool:
        """Whether the server sustained this rate, by the rule of the statistic `knee`."""
        return self.invalid_because is None and knee_of([self]) is not None

    def summary(self) -> dict[str, object]:
        """The step as one row of a table."""
        return {
            "offered/s": self.rate,
            "achieved/s": self.achieved,
            "goodput/s": self.goodput,
            "p50 ms": self.percentile_ms(0.5),
            "p95 ms": self.percentile_ms(0.95),
            "errors": self.errors,
            "requests": len(self.rows),
            "sustained": "not judged" if self.invalid_because else self.sustained,
        }


def sweep(offer: Offer, plan: SweepPlan) -> list[Step]:
    """Offer the rates that `next_rate` selects, and return one step per rate in that order."""
    began = time.monotonic()
    steps: list[Step] = []
    while (rate := next_rate(steps, plan)) is not None and time.monotonic() - began < plan.max_s:
        # Little's law: this many requests are in flight when the latency equals the objective.
        warm_up = max(10, math.ceil(rate * OBJECTIVE_MS / 1000))
        steps.append(step_of(rate, offer(rate, plan.requests(rate), warm_up)))
    return steps


def next_rate(steps: Sequence[Step], plan: SweepPlan) -> float | None:
    """Return the next rate in requests per second; None if the knee is close enough or the last step is done."""
    if not steps:
        return plan.first_rate
    if len(steps) >= plan.max_steps:
        return None
    too_much = min((step.rate for step in steps if not step.sustained), default=math.inf)
    sustained = max((step.rate for step in steps if step.rate < too_much), default=0.0)
    if math.isinf(too_much):
        return 2 * sustained
    if not sustained:
        return too_much / 2
    return None if too_much <= plan.close * sustained else round(math.sqrt(sustained * too_much), 1)


def step_of(rate: float, result: LoadResult) -> Step:
    """Return the step of one load, without the warm-up. Only a generator at its limit makes a step invalid."""
    return Step(rate, measured(result.rows), sum(result.errors.values()), result.invalid_because)


def rows_of(steps: Sequence[Step], name: str) -> Iterator[dict[str, object]]:
    """Yield the raw rows of a sweep with the columns `SWEEP_COLUMNS`, sorted by rate."""
    for step in sorted(steps, key=lambda step: step.rate):
        about = {"sweep": name, "offered_per_s": float(step.rate), "judged": "no" if step.invalid_because else "yes"}
        for row in step.rows:
            yield about | {column: row[column] for column in SWEEP_COLUMNS if column not in about}


def knee_of(steps: Sequence[Step]) -> float | None:
    """Return the highest sustained rate below the lowest rate that was not sustained; None if there is none."""
    judged = [row for row in rows_of(steps, "") if row["judged"] == "yes"]
    return knee(cast(Rows, judged), "offered_per_s", **SERVED).value if judged else None


def offer_to(
    url: str,
    folder: Path,
    *,
    kind: RequestKind,
    messages: Sequence[str],
    customers: Sequence[str],
    timeout_s: float = 10,
    seed: int = 0,
) -> Offer:
    """Return an `Offer` of open-loop Poisson loads for the server at `url`; `folder` receives the generator's files."""

    def offer(rate: float, requests: int, warm_up: int) -> LoadResult:
        return run_load(
            url,
            "open-loop",
            messages=messages,
            customers=customers,
            output=folder,
            requests=requests,
            kind=kind,
            timeout_s=timeout_s,
            seed=seed,
            warm_up=warm_up,
            rate=rate,
        )

    return offer
