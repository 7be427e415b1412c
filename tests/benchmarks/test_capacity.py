"""`benchmarks/capacity.py` on a run whose rows come from a service with known capacities."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bankllm.errors import UsageError
from bankllm.evidence.records import write_rows
from bankllm.loadtest.experiments import rate_sweep
from benchmarks import capacity
from benchmarks.simulation import SimulatedService, Station, offer

TRUTH = SimulatedService(Station(1, [0.01], 0.6, 32), Station(4, [0.4], 2.0, 4), cores=2, consulted=0.7)
"""167 chats per second of one worker; a text takes 0.4 s alone, and 0.8 s among four."""


def chats(path: str, load: str, service_ms: float, classify_ms: float, consulted: int) -> list[dict[str, Any]]:
    about = {"path": path, "load": load, "service_ms": service_ms, "fallback": "", "error": ""}
    asked = {"consulted": "yes", "generated": "yes", "classify_ms": classify_ms}
    others = {"consulted": "no", "generated": "no", "classify_ms": 1}
    return [about | (asked if number < consulted else others) for number in range(10)]


def chunk(path: str, load: str, users: int, seconds: float, number: int, texts: int, cpu_s: float) -> dict[str, Any]:
    about = {"path": path, "load": load, "users": users, "chunk": number, "chats": 30, "texts": texts, "cores": 2}
    about |= {"seconds": seconds, "all_before_s": 1, "all_after_s": 1 + cpu_s, "engine_before_s": 0}
    return about | {"engine_after_s": cpu_s, "all_memory_bytes": 2**29 if path == "rules" else 2**29 + 2**30}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    raw.mkdir()
    costs = [chunk("rules", "one", 1, 0.3, n, 0, 0.2) for n in range(3)]
    costs += [chunk("rules", "busy", 32, 0.1, n, 0, 0.18) for n in range(3)]
    costs += [chunk("model", "one", 1, 8.4, n, 21, 12.6) for n in range(3)]
    costs += [chunk("model", "busy", 4, 2 / 3, n, 21, 6.3) for n in range(3)]
    asked = [*chats("rules", "one", 10, 1, 0), *chats("rules", "busy", 100, 1, 0)]
    asked += [*chats("model", "one", 410, 400, 7), *chats("model", "busy", 810, 800, 7)]
    swept = {}
    for workers in (1, 2):
        offered = partial(offer, SimulatedService(Station(workers, [0.01], 0.6, 32 * workers)), seed=11)
        swept[f"chat_w{workers}"] = rate_sweep.sweep(offered, first_rate=60, step_s=4, max_steps=10, max_s=1e9)
    curve = rate_sweep.curve(partial(offer, TRUTH, seed=12), [1, 2, 4, 16], step_s=60, requests=12)
    tables: dict[str, Any] = {"cost": costs, "cost_chats": asked}
    tables |= {f"sweep_{name}": rate_sweep.rows_of(steps, name) for name, steps in swept.items()}
    for name, rows in {**tables, "curve": rate_sweep.rows_of(curve, "model")}.items():
        write_rows(raw / f"02_{name}.csv.gz", rows)
    return tmp_path


def test_the_prediction_from_costs_is_within_a_quarter_of_the_measured_knees(run: Path) -> None:
    found = capacity.report(run, per_s=1000, price_per_hour=0.1)
    assert found["service"]["chat factor"] == pytest.approx(TRUTH.chat.busy_factor)
    assert found["service"]["text factor"] == pytest.approx(2)
    assert found["service"]["consulted"] == 0.7
    one, two, knee = found["knees"]
    assert [one["path"], two["path"], knee["path"]] == ["rules, workers: 1", "rules, workers: 2", "model"]
    assert max(abs(one["apart"]), abs(two["apart"])) < 0.25
    assert one["predicted/s"] == pytest.approx(1 / 0.006, rel=0.15)
    assert two["predicted/s"] == pytest.approx(2 / 0.006, rel=0.15)
    assert knee["measured/s"] <= knee["predicted/s"] * 1.25
    for line in found["curve"]:
        assert line["by the model, predicted"] == pytest.approx(line["by the model, measured"], abs=0.15)
    assert found["curve"][0]["by the model, predicted"] > 0.6 > found["curve"][-1]["by the model, predicted"]
    lines = "\n".join(line for name in found for line in capacity.show(name, found[name]))
    assert "apart" in lines


def test_the_plan_follows_the_formulas_of_the_guide(run: Path) -> None:
    chunks = capacity.rows_of(run, "cost")
    plan = capacity.plan(chunks, TRUTH, per_s=1000, price_per_hour=0.1)
    assert plan["CPU s per chat"] == pytest.approx(0.18 / 30)
    assert plan["cores of workers"] == pytest.approx(1000 * 0.006 / 0.7)
    assert plan["texts/s"] == pytest.approx(700)
    assert plan["cores of engines"] == pytest.approx(700 * 0.3 / 0.7)
    machines = math.ceil(6 / 0.7 / 2) + math.ceil(700 * 0.3 / 0.7 / 2)
    assert plan["USD/h"] == pytest.approx(0.1 * machines)
    assert plan["memory GiB"] == pytest.approx(5 * 0.5 + 150)
    assert "USD/h" not in capacity.plan(chunks, TRUTH, per_s=10, price_per_hour=None)


def test_a_run_without_costs_is_refused(run: Path) -> None:
    (run / "raw/02_cost.csv.gz").unlink()
    with pytest.raises(UsageError, match=r"02_cost\.csv\.gz is missing\. Run notebook 02"):
        capacity.report(run, per_s=1000, price_per_hour=None)


def test_the_prediction_for_the_kept_load_session_is_within_a_quarter_of_each_measured_knee() -> None:
    session = Path(__file__).parents[2] / "outputs" / "reference-load"
    found = capacity.report(session, per_s=1000, price_per_hour=None)
    assert [knee["path"] for knee in found["knees"]] == ["rules, workers: 1", "rules, workers: 2", "model"]
    for knee in found["knees"]:
        assert abs(knee["apart"]) <= 0.25, knee


def test_more_workers_than_cores_are_no_more_servers(run: Path) -> None:
    costs = capacity.rows_of(run, "cost"), capacity.rows_of(run, "cost_chats")
    assert [capacity.service_of(*costs, workers).chat.servers for workers in (1, 2, 3)] == [1, 2, 2]
