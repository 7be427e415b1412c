"""The rate sweep finds the knee of a simulated queue with a known capacity, within its limits."""

from functools import partial
from typing import Any

import pytest

from bankllm.evidence.statistics.rates import MIN_ACHIEVED_SHARE, knee, share_knee
from bankllm.evidence.statistics.samples import samples_needed
from bankllm.loadtest.experiments.rate_sweep import (
    CLOSE,
    KEPT_COLUMNS,
    MAX_REQUESTS,
    MIN_REQUESTS,
    NOT_DEGRADED,
    SERVED,
    Step,
    curve,
    knee_of,
    next_rate,
    quality,
    rows_of,
    sweep,
)
from bankllm.loadtest.load import LoadResult
from tests.support.queue_model import open_loop

LIMITS: dict[str, Any] = {"first_rate": 25, "step_s": 10, "max_steps": 12, "max_s": 1e9}


def test_the_knee_of_a_queue_is_close_to_its_capacity() -> None:
    steps = sweep(partial(open_loop, capacity=200), **LIMITS)
    knee_rate = knee_of(steps)
    assert knee_rate is not None
    assert MIN_ACHIEVED_SHARE * 200 * 0.9 < knee_rate <= 200 / MIN_ACHIEVED_SHARE
    above = min(step.rate for step in steps if step.rate > knee_rate)
    assert above / knee_rate <= CLOSE
    assert not next(step for step in steps if step.rate == above).sustained


def test_the_rate_doubles_until_it_is_not_sustained_then_bisection_follows() -> None:
    steps = sweep(partial(open_loop, capacity=90), **LIMITS)
    rates = [step.rate for step in steps]
    assert rates[:4] == [25, 50, 100, round(5000**0.5, 1)]
    assert all(50 < rate < 100 for rate in rates[3:])
    assert len(set(rates)) == len(rates)


def test_the_rate_is_halved_if_the_first_rate_is_not_sustained() -> None:
    steps = sweep(partial(open_loop, capacity=9), **LIMITS | {"first_rate": 64, "step_s": 1})
    assert [step.rate for step in steps][:4] == [64, 32, 16, 8]
    assert 5 < (knee_of(steps) or 0) < 10


def test_steps_with_a_generator_at_its_limit_are_not_judged() -> None:
    """Steps above the limit are not judged. The knee is then a lower bound, which the statistic reports."""
    steps = sweep(partial(open_loop, capacity=1e6, generator_limit=100), **LIMITS)
    assert max(step.rate for step in steps if not step.result.invalid_because) <= 100
    judged = [row for row in rows_of(steps, "health") if row["judged"] == "yes"]
    assert len(judged) < sum(len(step.rows) for step in steps)
    texts = [{name: str(value) for name, value in row.items()} for row in judged]
    estimate = knee(texts, "offered_per_s", **SERVED)
    assert estimate.invalid_because == "no rate was too much: the knee lies higher"
    assert estimate.value == knee_of(steps)
    assert {step.summary()["sustained"] for step in steps if step.result.invalid_because} == {"not judged"}


def test_a_rate_with_a_failed_request_is_not_sustained() -> None:
    steps = sweep(partial(open_loop, capacity=1e6, fails_over=130), **LIMITS)
    assert 100 <= (knee_of(steps) or 0) <= 130
    assert knee_of([step for step in steps if step.rate > 130]) is None


def test_raw_rows_are_the_measured_rows_sorted_by_rate() -> None:
    steps = [Step(rate, open_loop(rate, 150, 20)) for rate in (100, 50)]
    rows = list(rows_of(steps, "chat, 1 worker"))
    assert [list(row) for row in rows[:1]] == [["sweep", "offered_per_s", "judged", *KEPT_COLUMNS]]
    assert [row["offered_per_s"] for row in rows] == [50] * 150 + [100] * 150
    assert {row["sweep"] for row in rows} == {"chat, 1 worker"}


def test_a_sweep_ends_when_the_knee_is_close_enough() -> None:
    sustained, not_sustained = (Step(rate, open_loop(rate, 2000, capacity=100)) for rate in (90, 120))
    assert next_rate([sustained, not_sustained]) == pytest.approx(103.9)
    assert next_rate([sustained, Step(98, not_sustained.result)]) is None


def test_the_requests_of_a_step_follow_from_its_duration_within_limits() -> None:
    asked: list[tuple[int, int]] = []

    def offer(rate: float, requests: int, warm_up: int) -> LoadResult:
        asked.append((requests, warm_up))
        return open_loop(rate, 150)

    for rate in (1, 100.05, 6400):
        sweep(offer, first_rate=rate, step_s=10, max_steps=1, max_s=1e9)
    assert sweep(offer, first_rate=1, step_s=10, max_steps=1, max_s=0) == []
    assert asked == [(MIN_REQUESTS, 10), (1001, 51), (MAX_REQUESTS, 3200)]
    assert samples_needed(0.95) <= MIN_REQUESTS


def test_the_curve_shows_what_users_get_at_each_rate() -> None:
    steps = curve(partial(open_loop, capacity=200), [50, 400, 0.1], step_s=2, requests=12)
    assert [len(step.rows) for step in steps] == [100, 800, 12]
    easy, hard, _ = quality(steps)
    assert (easy["offered/s"], easy["by the model"], easy["in time"], easy["right"], easy["wrong"]) == (50, 1, 1, 1, 0)
    assert hard["by the model"] < 0.3
    assert hard["in time"] < 0.9
    assert hard["first word p50 ms"] < hard["p50 ms"] < hard["p95 ms"]
    rows = [{name: str(value) for name, value in row.items()} for row in rows_of(steps, "model")]
    found = share_knee(rows, "offered_per_s", **NOT_DEGRADED)
    assert found.value == 50
    assert (found.why_no_ci95 or "").startswith("one sweep: 400/s was too much")
