"""Repeat the loads of several drivers, to report each result with its spread over runs.

session = run_session({"ab": load_with_ab, "open-loop": load_open_loop}, runs=3)
run.write_rows("session_ab", session.rows("ab"))
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from bankllm.errors import NotMeasured
from bankllm.loadtest.load import LoadResult, RequestRow, estimate


@dataclass
class Session:
    """The results of several runs of several drivers."""

    results: dict[str, list[LoadResult]] = field(default_factory=dict)
    """Driver → one result per run."""
    missing: dict[str, str] = field(default_factory=dict)
    """Driver that is not installed → the reason."""

    def rows(self, driver: str) -> Iterator[RequestRow]:
        """Yield the measured requests of all runs of a driver: the column `run`, then those of `load.COLUMNS`."""
        for run, result in enumerate(self.results[driver], start=1):
            yield from ({"run": run, **row} for row in result.measured)

    def summaries(self, driver: str) -> list[RequestRow]:
        """Return one row per run of a driver: `run`, and the columns of `LoadResult.summary`."""
        return [{"run": run, **result.summary()} for run, result in enumerate(self.results[driver], start=1)]

    def invalid_because(self, driver: str) -> str | None:
        """Return why runs of a driver are invalid, with the numbers of the runs; None if all runs are valid."""
        faults = [(row["run"], row["invalid_because"]) for row in self.summaries(driver) if row["invalid_because"]]
        return "; ".join(f"run {run}: {fault}" for run, fault in faults) or None

    def p95_ms(self, driver: str) -> list[float | None]:
        """Return the p95 of the chat latency in ms, one value per run; None for a run with too few chats."""
        return [estimate(result.chats(), 0.95).value for result in self.results[driver]]


def run_session(loads: Mapping[str, Callable[..., LoadResult]], runs: int) -> Session:
    """Run each load `runs` times. The drivers alternate, so that changes on the machine affect all of them.

    `loads` is driver → function of the keyword `seed`, the number of the run from 1. A driver that raises `NotMeasured`
    has no runs and is listed in `missing`.
    """
    session = Session()
    for run in range(1, runs + 1):
        for driver in [name for name in loads if name not in session.missing]:
            try:
                session.results.setdefault(driver, []).append(loads[driver](seed=run))
            except NotMeasured as reason:
                session.missing[driver] = str(reason)
                del session.results[driver]
    return session
