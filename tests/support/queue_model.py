"""A simulated server: one queue with a fixed service time. Returns results as the load drivers would.

The first word comes at half of the service time, and every other request is a question that is answered right.
"""

import random

from bankllm.loadtest import load
from bankllm.loadtest.load import COLUMNS, Load, LoadResult, RequestRow

MODEL_S = 0.1
"""A request that waits longer is served by rules."""


def open_loop(
    rate: float,
    requests: int,
    warm_up: int = 0,
    *,
    capacity: float = 200.0,
    seed: int = 0,
    fails_over: float = 1e9,
    generator_limit: float = 1e9,
) -> LoadResult:
    """Simulate Poisson arrivals at a first-in, first-out queue that serves `capacity` requests per second.

    All requests fail if `rate` is above `fails_over`; the load is invalid if `rate` is above `generator_limit`.
    """
    draw = random.Random(seed)
    due = free = 0.0
    rows = []
    reply = {"status": 503, "error": "HTTP 503"} if rate > fails_over else {"status": 200}
    for number in range(warm_up + requests):
        late = free > due + MODEL_S
        served = {
            "served_by": "rules" if late else "model",
            "fallback": "time-out" if late else "",
            "degraded": "yes" if late else "no",
        }
        served |= {"asked": "question" if number % 2 else "text", "answer": "right" if number % 2 else ""}
        free = max(due, free) + 1 / capacity
        phase = "warm_up" if number < warm_up else "steady"
        about = {"driver": "open-loop", "kind": "chat", "phase": phase, **reply}
        rows.append(load.row(due, free, due, free - 0.5 / capacity, **about, **served))
        due += draw.expovariate(rate)
    return result("open-loop", rows, rate, "the generator sent too late" if rate > generator_limit else None)


def result(
    driver: str, rows: list[RequestRow], rate: float | None = None, invalid_because: str | None = None
) -> LoadResult:
    """Return the result of `run_load` for these rows."""
    asked = Load("http://127.0.0.1:9", driver, ["hi"], ["CUST001"], requests=100, rate=rate)
    return LoadResult(asked, rows, generator_cpu_share=0.5, invalid_because=invalid_because)


def row(**values: str | float) -> RequestRow:
    """Return a row of the per-request table; columns without a value are empty."""
    return {column: values.get(column, "") for column in COLUMNS}
