"""The rate sweep finds the knee of a simulated queue with a known capacity, within its limits."""

from functools import partial

import pytest

from bankllm.evidence.statistics.registry import MIN_ACHIEVED_SHARE, knee, samples_needed
from bankllm.loadtest.experiments.rate_sweep import (
    MAX_REQUESTS,
    MIN_REQUESTS,
    SERVED,
    SWEEP_COLUMNS,
    Step,
    SweepPlan,
    knee_of,
    next_rate,
    rows_of,
    step_of,
    sweep,
)
from tests.support.queue_model import open_loop

PLAN = SweepPlan(first_rate=25, step_s=10, max_steps=12, max_s=1e9)


def test_the_knee_of_a_queue_is_close_to_its_capacity() -> None:
    steps = sweep(partial(open_loop, capacity=200), PLAN)
    knee_rate = knee_of(steps)
    assert knee_rate is not None
    assert MIN_ACHIEVED_SHARE * 200 * 0.9 < knee_rate <= 200 / MIN_ACHIEVED_SHARE
    above = min(step.rate for step in steps if step.rate > knee_rate)
    assert above / knee_rate <= PLAN.close
    assert not next(step for step in steps if step.rate == above).sustained


def test_the_rate_doubles_until_it_is_not_sustained_then_bisection_follows() -> None:
    steps = sweep(partial(open_loop, capacity=90), PLAN)
    rates = [step.rate for step in steps]
    assert rates[:4] == [25, 50, 100, round(5000**0.5, 1)]
    assert all(50 < rate < 100 for rate in rates[3:])
    assert len(set(rates)) == len(rates)


def test_the_rate_is_halved_if_the_first_rate_is_not_sustained() -> None:
    steps = sweep(partial(open_loop, capacity=9), SweepPlan(first_rate=64, step_s=1, max_steps=12, max_s=1e9))
    assert [step.rate for step in steps][:4] == [64, 32, 16, 8]
    assert 5 < (knee_of(steps) or 0) < 10


def test_a_sweep_is_limited_in_steps_and_in_time() -> None:
    few = SweepPlan(first_rate=1, step_s=1, max_steps=3, max_s=1e9)
    assert [step.rate for step in sweep(open_loop, few)] == [1, 2, 4]
    assert sweep(open_loop, SweepPlan(first_rate=1, step_s=1, max_steps=3, max_s=0)) == []


def test_steps_with_a_generator_at_its_limit_are_not_judged() -> None:
    """Steps above the limit are not judged. The knee is then a lower bound, which the statistic reports."""
    steps = sweep(partial(open_loop, capacity=1e6, generator_limit=100), PLAN)
    assert max(step.rate for step in steps if not step.invalid_because) <= 100
    judged = [row for row in rows_of(steps, "health") if row["judged"] == "yes"]
    assert len(judged) < sum(len(step.rows) for step in steps)
    texts = [{name: str(value) for name, value in row.items()} for row in judged]
    estimate = knee(texts, "offered_per_s", **SERVED)
    assert estimate.invalid_because == "no rate was too much: the knee lies higher"
    assert estimate.value == knee_of(steps)
    assert [step.summary()["sustained"] for step in steps if step.invalid_because] != []
    assert {step.summary()["sustained"] for step in steps if step.invalid_because} == {"not judged"}


def test_a_rate_with_a_failed_request_is_not_sustained() -> None:
    steps = sweep(partial(open_loop, capacity=1e6, fails_over=130), PLAN)
    assert 100 <= (knee_of(steps) or 0) <= 130
    assert knee_of([step for step in steps if step.rate > 130]) is None


def test_raw_rows_are_the_measured_rows_sorted_by_rate() -> None:
    steps = [step_of(rate, open_loop(rate, 150, 20)) for rate in (100, 50)]
    rows = list(rows_of(steps, "chat, 1 worker"))
    assert [list(row) for row in rows[:1]] == [list(SWEEP_COLUMNS)]
    assert [row["offered_per_s"] for row in rows] == [50] * 150 + [100] * 150
    assert {row["sweep"] for row in rows} == {"chat, 1 worker"}


def test_a_step_reports_its_rates_and_its_latency() -> None:
    step = step_of(400, open_loop(400, 1000, capacity=200))
    assert step.achieved == pytest.approx(200, rel=0.05)
    assert step.goodput < 0.5 * step.achieved
    assert step.percentile_ms(0.95) > 1000
    assert not step.sustained
    assert step.summary()["errors"] == 0
    assert Step(1, step.rows[:100], 0, None).percentile_ms(0.95) != Step(1, step.rows, 0, None).percentile_ms(0.95)


def test_every_step_has_enough_samples_for_a_p95() -> None:
    assert samples_needed(0.95) <= MIN_REQUESTS == PLAN.requests(1)
    assert PLAN.requests(100.05) == 1001


def test_a_sweep_ends_when_the_knee_is_close_enough() -> None:
    sustained, not_sustained = (step_of(rate, open_loop(rate, 2000, capacity=100)) for rate in (90, 120))
    assert next_rate([sustained, not_sustained], PLAN) == pytest.approx(103.9)
    assert next_rate([sustained, not_sustained], SweepPlan(90, 1, 9, 9, close=1.34)) is None


def test_the_requests_of_a_step_follow_from_its_duration_within_limits() -> None:
    assert PLAN.requests(1) == MIN_REQUESTS
    assert PLAN.requests(100) == 1000
    assert PLAN.requests(6400) == MAX_REQUESTS
