"""Every record of the load tests can be measured in a run folder, and the run verifies."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from bankllm.evidence.run import Run
from bankllm.evidence.verification.verify import verify_records
from bankllm.loadtest.experiments import load_records
from bankllm.loadtest.experiments.driver_agreement import drivers_agree
from bankllm.loadtest.experiments.rate_sweep import Step, curve, knee_of, rows_of, sweep
from bankllm.loadtest.experiments.rate_sweep import piece_rows as piece_rows_of
from bankllm.loadtest.load import estimate, piece_rows
from tests.support.queue_model import open_loop


def test_the_records_of_a_sweep_describe_its_knee(run: Run) -> None:
    steps = sweep(partial(open_loop, capacity=200), first_rate=50, step_s=5, max_steps=7, max_s=1e9)
    run.write_rows("sweep", rows_of(steps, "chat_w1"))
    measured = {each["id"]: run.measure(**each).value for each in load_records.of_sweep("chat_w1", steps, "sweep")}
    assert list(measured) == [f"load.sweep.chat_w1.{name}" for name in ("knee", "goodput", "p50_ms", "p95_ms")]
    knee = knee_of(steps)
    at_knee = next(step for step in steps if step.rate == knee)
    assert measured["load.sweep.chat_w1.knee"] == knee
    assert measured["load.sweep.chat_w1.goodput"] == pytest.approx(at_knee.goodput)
    assert measured["load.sweep.chat_w1.p95_ms"] == at_knee.percentile_ms(0.95)
    assert verify_records(run.folder).holds


def test_the_records_of_a_curve_say_by_whom_how_fast_and_how_right_chats_were_answered(run: Run) -> None:
    steps = curve(partial(open_loop, capacity=200), [50, 400], step_s=3, requests=12)
    pieces = [piece for n in range(30) for piece in piece_rows(n, n, [n + 0.2, n + 0.3, n + 0.5], "model")]
    steps[0] = Step(50, replace(steps[0].result, pieces=pieces))
    run.write_rows("curve", rows_of(steps, "model"))
    run.write_rows("pieces", piece_rows_of(steps, "model"))
    measured = {each["id"]: run.measure(**each) for each in load_records.of_curve(steps, "curve", "pieces")}
    value = {id.removeprefix("load.model."): record.value for id, record in measured.items()}
    assert value["knee"] == 50
    assert value["at_50.share"] == value["at_50.right"] == 1
    assert (value["at_50.wrong"], value["at_400.share"] < 0.5) == (0, True)
    assert value["at_50.goodput"] == pytest.approx(steps[0].achieved)
    assert value["at_400.goodput"] < steps[1].achieved
    assert value["at_50.itl.mean_ms"] == pytest.approx(150)
    assert value["at_50.tokens"] == pytest.approx(90 / 29.3)
    assert measured["load.model.at_400.tokens"].invalid_because == "no rows"
    assert verify_records(run.folder).holds


def test_the_other_experiments_have_their_records(run: Run) -> None:
    runs = [open_loop(50, 150, seed=seed) for seed in (1, 2, 3)]
    run.write_rows("session", ({"run": n, **row} for n, done in enumerate(runs) for row in done.measured))
    run.write_rows("session_summary", ({"run": n, **done.summary()} for n, done in enumerate(runs)))
    result = open_loop(50, 700)
    run.write_rows("soak", result.rows)
    run.write_rows("load_ab", result.rows)
    run.write_rows("load_ab_summary", [result.summary()])
    run.write_rows("memory", ({"at_s": at, "rss_bytes": 100} for at in range(20)))
    workloads = ("cold", "warm", "zipf", "repeated")
    run.write_rows("cache", ({"workload": w, **row} for w in workloads for row in open_loop(50, 150).rows))
    two: dict[str, Any] = {"ab": open_loop(50, 150).rows, "locust": open_loop(50, 150, seed=1).rows}
    run.write_rows("requests", ({**row, "driver": driver} for driver, rows in two.items() for row in rows))
    run.write_rows("table", drivers_agree(two, load="one user"))
    everything = [
        *load_records.of_load("load.ab", "ab, 100 users", "load_ab", conditions={"loop": "closed"}),
        *load_records.of_session("open-loop", 3, "session"),
        *load_records.of_soak("soak", "memory", rate=50, minutes=10),
        *load_records.of_cache("cache"),
        *load_records.of_crosscheck("table", "requests"),
    ]
    measured = {each["id"]: run.measure(**each).value for each in everything}
    assert list(measured)[:5] == [f"load.ab.{name}" for name in ("throughput", "p50_ms", "p95_ms", "p99_ms", "ok")]
    assert measured["load.ab.ok"] == 1
    p95 = [measured[f"load.session.openloop.p95_ms_{pick}"] for pick in ("min", "median", "max")]
    assert p95 == sorted(estimate(result.rows, 0.95).value or 0 for result in runs)
    assert measured["load.soak.memory_growth"] == 0
    assert measured["load.cache.spread"] == 0
    assert measured["load.crosscheck.agree"] == 1
    assert {record.status for record in run.records()} == {"measured"}
    assert verify_records(run.folder).holds
