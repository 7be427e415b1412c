"""A simulated server: one queue with a fixed service time. Returns results as the load drivers would."""

import random
from collections.abc import Iterator

from bankllm.loadtest.load import COLUMNS, RequestRow
from bankllm.loadtest.runner import LoadResult


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
    rows = list(_rows(rate, requests, warm_up, capacity, seed, "HTTP 503" if rate > fails_over else ""))
    failed = sum(bool(row["error"]) for row in rows if row["phase"] != "warm_up")
    return result("open-loop", rows, {"HTTP 503": failed} if failed else {}, rate > generator_limit)


def result(driver: str, rows: list[RequestRow], errors: dict[str, int] | None = None, busy: bool = False) -> LoadResult:
    """Return the result of `run_load` for these rows."""
    return LoadResult(
        driver=driver,  # type: ignore[arg-type]
        rows=rows,
        errors=errors or {},
        users=0,
        rate=None,
        seconds=max(float(row["done_s"]) for row in rows),
        generator_cpu_share=0.5,
        limits=(),
        invalid_because="the generator sent too late" if busy else None,
    )


def row(**values: str | float) -> RequestRow:
    """Return a row of the per-request table; columns without a value are empty."""
    return {column: values.get(column, "") for column in COLUMNS}


def _rows(rate: float, requests: int, warm_up: int, capacity: float, seed: int, error: str) -> Iterator[RequestRow]:
    draw = random.Random(seed)
    due = free = 0.0
    for number in range(warm_up + requests):
        done = free = max(due, free) + 1 / capacity
        yield row(
            driver="open-loop",
            kind="chat",
            phase="warm_up" if number < warm_up else "steady",
            scheduled_s=due,
            sent_s=due,
            done_s=done,
            latency_ms=1000 * (done - due),
            service_ms=1000 * (done - due),
            status=503 if error else 200,
            error=error,
        )
        due += draw.expovariate(rate)
