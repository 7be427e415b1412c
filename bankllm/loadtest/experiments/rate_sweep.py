"""A rate sweep to the knee: how much can the server be offered before customers wait too long?

steps = sweep(offer_to(server.url, kind="chat", ...), SweepPlan(first_rate=25, step_s=10, most_steps=9, most_s=120))
run.write_rows("sweep", rows_of(steps, name="chat, 1 worker"))

Open loop throughout: a closed loop slows down with the server and would never be offered too much.
`evidence.statistics.knee` says what the knee is, and reads it off the rows.
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
"""What p95 must stay within."""
MOST = 10_000
"""Requests of a step: more would only make the rows heavy that everyone shall read."""
FEWEST = 150
"""Requests of a step: what a p95 needs (`samples_needed`), and some over."""
TIMES = {"start": "scheduled_s", "end": "done_s"}
SERVED: dict[str, Any] = {**TIMES, "latency": "latency_ms", "error": "error", "objective_ms": OBJECTIVE_MS}
"""What the statistic `goodput` needs to know of the rows; with `offered="offered_per_s"`, so does `knee`."""
Offer = Callable[[float, int, int], LoadResult]
"""Offers (requests a second, how many measured, how many to warm up), open loop."""
SWEEP_COLUMNS = {
    "sweep": "which sweep, e.g. chat, 1 worker",
    "offered_per_s": "the rate that was aimed at",
    "judged": "yes; no where the load generator itself could not keep up, so that nothing is said of the server",
    "scheduled_s": "when the request was due, in seconds since its step began",
    "sent_s": "when it was sent",
    "done_s": "when the reply's last byte was there, or the failure",
    "latency_ms": "what a user waited: from due to done",
    "service_ms": "from sent to done",
    "error": "empty if all went well",
}
"""The columns of a sweep's raw file."""


@dataclass(frozen=True)
class SweepPlan:
    """Where a sweep begins and what bounds it. It doubles the rate until one is too much, then halves the gap."""

    first_rate: float
    """Requests a second."""
    step_s: float
    """How long each rate is offered; a low one for longer, until it makes `FEWEST` requests, a high one for `MOST`."""
    most_steps: int
    most_s: float
    """No step begins later than this, in seconds."""
    close: float = 1.1
    """The gap is small enough where the rate that was too much is at most so many times one that was not."""

    def requests(self, rate: float) -> int:
        return max(FEWEST, min(MOST, math.ceil(rate * self.step_s)))


@dataclass(frozen=True)
class Step:
    """One offered rate and what came of it. `rows` are the measured ones."""

    rate: float
    rows: Sequence[RequestRow]
    errors: int
    invalid_because: str | None
    """Set where the generator, not the server, was at its limit."""

    @property
    def table(self) -> Rows:
        """The rows as a statistic takes them."""
        return cast(Rows, self.rows)

    def percentile_ms(self, q: float, column: str = "latency_ms") -> float:
        """nan where there are too few rows."""
        value = percentile(self.table, column, q).value
        return math.nan if value is None else value

    @cached_property
    def achieved(self) -> float:
        """Replies a second, from the first due to the last done."""
        return throughput(self.table, **TIMES).value or 0.0

    @cached_property
    def goodput(self) -> float:
        """Replies a second that were well and within the objective."""
        return goodput(self.table, **SERVED).value or 0.0

    @cached_property
    def stood(self) -> bool:
        """Whether the server stood this rate, by the rule of `evidence.statistics.knee`."""
        return self.invalid_because is None and knee_of([self]) is not None

    def summary(self) -> dict[str, object]:
        """The step in one row of a table."""
        return {
            "offered/s": self.rate,
            "achieved/s": self.achieved,
            "goodput/s": self.goodput,
            "p50 ms": self.percentile_ms(0.5),
            "p95 ms": self.percentile_ms(0.95),
            "errors": self.errors,
            "requests": len(self.rows),
            "stood": "not judged" if self.invalid_because else self.stood,
        }


def sweep(offer: Offer, plan: SweepPlan) -> list[Step]:
    """Offer one rate after another as `next_rate` chooses them, and keep what came of each, in that order."""
    began = time.monotonic()
    steps: list[Step] = []
    while (rate := next_rate(steps, plan)) is not None and time.monotonic() - began < plan.most_s:
        # By Little's law so many are on their way at once where latency is at the objective.
        warm_up = max(10, math.ceil(rate * OBJECTIVE_MS / 1000))
        steps.append(step_of(rate, offer(rate, plan.requests(rate), warm_up)))
    return steps


def next_rate(steps: Sequence[Step], plan: SweepPlan) -> float | None:
    """The rate to offer next; None where the knee is known closely enough, or all steps are spent."""
    if not steps:
        return plan.first_rate
    if len(steps) >= plan.most_steps:
        return None
    too_much = min((step.rate for step in steps if not step.stood), default=math.inf)
    stood = max((step.rate for step in steps if step.rate < too_much), default=0.0)
    if math.isinf(too_much):
        return 2 * stood
    if not stood:
        return too_much / 2
    return None if too_much <= plan.close * stood else round(math.sqrt(stood * too_much), 1)


def step_of(rate: float, result: LoadResult) -> Step:
    """A load at one rate, without its warm-up. A failing server does not make it invalid; a busy generator does."""
    return Step(rate, measured(result.rows), sum(result.errors.values()), result.invalid_because)


def rows_of(steps: Sequence[Step], name: str) -> Iterator[dict[str, object]]:
    """The raw rows of a sweep, with `SWEEP_COLUMNS`."""
    for step in sorted(steps, key=lambda step: step.rate):
        about = {"sweep": name, "offered_per_s": float(step.rate), "judged": "no" if step.invalid_because else "yes"}
        for row in step.rows:
            yield about | {column: row[column] for column in SWEEP_COLUMNS if column not in about}


def knee_of(steps: Sequence[Step]) -> float | None:
    """The highest rate that the server stood, below the first that it did not; None where there is none."""
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
    """Open-loop Poisson loads of the server at `url`; the generator's files lie in `folder`."""

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
