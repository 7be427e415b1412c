"""Repeated runs of several drivers: alternating drivers, missing drivers and invalid runs."""

from bankllm.errors import NotMeasured
from bankllm.loadtest.experiments.repeated_runs import run_session
from bankllm.loadtest.load import COLUMNS, LoadResult
from tests.support.queue_model import open_loop


def absent(seed: int) -> LoadResult:
    raise NotMeasured("ab not found; install it")


def test_drivers_alternate_and_rows_have_the_number_of_the_run() -> None:
    calls: list[tuple[str, int]] = []

    def run_load(driver: str, run: int) -> LoadResult:
        calls.append((driver, run))
        return open_loop(50, 200, 30, seed=run)

    session = run_session({"a": lambda seed: run_load("a", seed), "b": lambda seed: run_load("b", seed)}, runs=3)
    assert calls == [("a", 1), ("b", 1), ("a", 2), ("b", 2), ("a", 3), ("b", 3)]
    rows = list(session.rows("a"))
    assert [each["run"] for each in rows] == [1] * 200 + [2] * 200 + [3] * 200
    assert list(rows[0]) == ["run", *COLUMNS]
    assert [summary["run"] for summary in session.summaries("b")] == [1, 2, 3]
    assert len(set(session.p95_ms("a"))) == 3
    assert session.invalid_because("a") is None


def test_a_driver_that_is_not_installed_is_missing_and_the_others_continue() -> None:
    session = run_session({"ab": absent, "open-loop": lambda seed: open_loop(50, 130)}, runs=2)
    assert session.missing == {"ab": "ab not found; install it"}
    assert {driver: len(results) for driver, results in session.results.items()} == {"open-loop": 2}


def test_an_invalid_run_makes_the_results_of_its_driver_invalid_and_is_named() -> None:
    session = run_session({"open-loop": lambda seed: open_loop(50, 130, generator_limit=60 - 20 * seed)}, runs=2)
    assert (
        session.invalid_because("open-loop") == "run 1: the generator sent too late; run 2: the generator sent too late"
    )


def test_a_run_with_too_few_chats_has_no_p95() -> None:
    session = run_session({"open-loop": lambda seed: open_loop(50, 100)}, runs=2)
    assert session.p95_ms("open-loop") == [None, None]
    assert run_session({"ab": absent}, runs=0).results == {}
