"""Repeat the loads of several drivers, to report each result with its spread over runs.

session = run_session({"ab": load_with_ab, "open-loop": load_open_loop}, runs=3)
run.write_rows("session_ab", session.rows("ab"))
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from bankllm.errors import NotMeasured
from bankllm.evidence.statistics.registry import Rows, percentile
from bankllm.loadtest.load import RequestRow, measured
from bankllm.loadtest.runner import LoadResult

RunLoad = Callable[..., LoadResult]
"""Runs one load; takes the keyword `seed`, which is the number of the run, from 1."""


@dataclass(frozen=True)
class Session:
    """The results of several runs of several drivers."""

    results: dict[str, list[LoadResult]]
    """Driver → one result per run."""
    missing: dict[str, str]
    """Driver that is not installed → the reason."""

    def rows(self, driver: str) -> Iterator[RequestRow]:
        """Yield the measured requests of all runs of a driver: the column `run`, then those of `load.COLUMNS`."""
        for run, result in enumerate(self.results[driver], start=1):
            yield from ({"run": run, **row} for row in measured(result.rows))

    def summaries(self, driver: str) -> Iterator[RequestRow]:
        """Yield one row per run of a driver: `run`, and the columns of `LoadResult.summary`."""
        for run, result in enumerate(self.results[driver], start=1):
            yield {"run": run, **result.summary()}

    def invalid_because(self, driver: str) -> str | None:
        """Return why runs of a driver are invalid, with the numbers of the runs; None if all runs are valid."""
        faults = {
            run: result.invalid_because
            for run, result in enumerate(self.results[driver], start=1)
            if result.invalid_because
        }
        return "; ".join(f"run {run}: {fault}" for run, fault in faults.items()) or None

    def seconds(self) -> float:
        """Return the total duration of all loads in s, without the warm-ups."""
        return sum(result.seconds for results in self.results.values() for result in results)

    def requests(self) -> int:
        """Return the total number of measured requests."""
        return sum(len(measured(result.rows)) for results in self.results.values() for result in results)

    def errors(self) -> int:
        """Return the total number of measured requests that failed."""
        return sum(sum(result.errors.values()) for results in self.results.values() for result in results)

    def p95_ms(self, driver: str) -> list[float | None]:
        """Return the p95 of the chat latency in ms, one value per run; None for a run with too few chats."""
        chats = ([row for row in measured(result.rows) if row["kind"] == "chat"] for result in self.results[driver])
        return [percentile(cast(Rows, rows), "latency_ms", 0.95).value for rows in chats]


def run_session(loads: Mapping[str, RunLoad], runs: int) -> Session:
    """Run each load `runs` times. The drivers alternate, so that changes on the machine affect all of them.

    `loads` is driver → function. A driver that raises `NotMeasured` has no runs and is listed in `missing`.
    """
    results: dict[str, list[LoadResult]] = {}
    missing: dict[str, str] = {}
    for run in range(1, runs + 1):
        for driver, run_load in loads.items():
            if driver in missing:
                continue
            try:
                results.setdefault(driver, []).append(run_load(seed=run))
            except NotMeasured as reason:
                missing[driver] = str(reason)
                results.pop(driver)
    return Session(results, missing)
