"""Every record of the load tests can be measured in a run folder, and the run verifies."""

from functools import partial
from typing import Any

import pytest

from bankllm.evidence.run import Run
from bankllm.evidence.verification.verify import verify_records
from bankllm.loadtest.experiments import load_records
from bankllm.loadtest.experiments.driver_agreement import drivers_agree
from bankllm.loadtest.experiments.rate_sweep import knee_of, rows_of, sweep
from bankllm.loadtest.experiments.repeated_runs import rows_of as session_rows
from bankllm.loadtest.experiments.repeated_runs import run_session, summaries
from bankllm.loadtest.load import estimate
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


def test_the_other_experiments_have_their_records(run: Run) -> None:
    runs = run_session({"open-loop": partial(open_loop, 50, 150)}, runs=3)
    run.write_rows("session", session_rows(runs["open-loop"]))
    run.write_rows("session_summary", summaries(runs["open-loop"]))
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
    assert p95 == sorted(estimate(result.rows, 0.95).value or 0 for result in runs["open-loop"])
    assert measured["load.soak.memory_growth"] == 0
    assert measured["load.cache.spread"] == 0
    assert measured["load.crosscheck.agree"] == 1
    assert {record.status for record in run.records()} == {"measured"}
    assert verify_records(run.folder).holds
