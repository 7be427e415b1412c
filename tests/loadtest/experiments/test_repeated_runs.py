"""Repeated runs of several drivers: alternating drivers, and invalid runs."""

from functools import partial

from bankllm.loadtest.experiments.repeated_runs import invalid_because, rows_of, run_session, summaries
from bankllm.loadtest.load import COLUMNS, LoadResult
from tests.support.queue_model import open_loop


def test_drivers_alternate_and_rows_have_the_number_of_the_run() -> None:
    calls: list[tuple[str, int]] = []

    def load(driver: str, seed: int) -> LoadResult:
        calls.append((driver, seed))
        return open_loop(50, 200, 30, seed=seed)

    session = run_session({driver: partial(load, driver) for driver in ("a", "b")}, runs=3)
    assert calls == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3)]
    rows = list(rows_of(session["a"]))
    assert [each["run"] for each in rows] == [1] * 200 + [2] * 200 + [3] * 200
    assert list(rows[0]) == ["run", *COLUMNS]
    assert [(row["run"], row["requests"]) for row in summaries(session["b"])] == [(1, 200), (2, 200), (3, 200)]
    assert invalid_because(session["a"]) is None
    assert run_session({"a": partial(load, "a")}, runs=0) == {}


def test_an_invalid_run_makes_the_results_of_its_driver_invalid_and_is_named() -> None:
    session = run_session({"a": lambda seed: open_loop(50, 130, generator_limit=60 - 20 * (seed == 2))}, runs=3)
    assert invalid_because(session["a"]) == "run 2: the generator sent too late"
