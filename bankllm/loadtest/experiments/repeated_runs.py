"""Several loads of one server, so that a figure comes with its spread over runs and not from one lucky minute.

session = run_session({"ab": ask_with_ab, "open-loop": ask_open_loop}, runs=3)
run.write_rows("session_ab", session.rows("ab"))
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from bankllm.errors import NotMeasured
from bankllm.evidence.statistics.registry import Rows, percentile
from bankllm.loadtest.load import RequestRow, measured
from bankllm.loadtest.runner import LoadResult

Ask = Callable[..., LoadResult]
"""Makes one load; takes `seed`, which is the number of the run, from 1."""


@dataclass(frozen=True)
class Session:
    """The loads of each driver, one a run, and why a driver has none."""

    results: dict[str, list[LoadResult]]
    missing: dict[str, str]

    def rows(self, driver: str) -> Iterator[RequestRow]:
        """The requests of all its runs, with the column `run` before those of `load.COLUMNS`; no warm-up."""
        for run, result in enumerate(self.results[driver], start=1):
            yield from ({"run": run, **row} for row in measured(result.rows))

    def summaries(self, driver: str) -> Iterator[RequestRow]:
        """One row a run: `run`, and what `LoadResult.summary` tells."""
        for run, result in enumerate(self.results[driver], start=1):
            yield {"run": run, **result.summary()}

    def invalid_because(self, driver: str) -> str | None:
        """What is wrong with any of its runs."""
        faults = {
            run: result.invalid_because
            for run, result in enumerate(self.results[driver], start=1)
            if result.invalid_because
        }
        return "; ".join(f"run {run}: {fault}" for run, fault in faults.items()) or None

    def seconds(self) -> float:
        """Of load in all, warm-ups left out."""
        return sum(result.seconds for results in self.results.values() for result in results)

    def requests(self) -> int:
        """Measured ones, in all."""
        return sum(len(measured(result.rows)) for results in self.results.values() for result in results)

    def errors(self) -> int:
        """Requests that failed, in all."""
        return sum(sum(result.errors.values()) for results in self.results.values() for result in results)

    def p95_ms(self, driver: str) -> list[float | None]:
        """Of the chats' latency, one a run; None where there are too few of them."""
        chats = ([row for row in measured(result.rows) if row["kind"] == "chat"] for result in self.results[driver])
        return [percentile(cast(Rows, rows), "latency_ms", 0.95).value for rows in chats]


def run_session(asks: Mapping[str, Ask], runs: int) -> Session:
    """Let the drivers take turns, `runs` times each: what changes on the machine meanwhile meets them all alike.

    A driver that is not installed has no runs, and stands in `missing` with the reason.
    """
    results: dict[str, list[LoadResult]] = {}
    missing: dict[str, str] = {}
    for run in range(1, runs + 1):
        for driver, ask in asks.items():
            if driver in missing:
                continue
            try:
                results.setdefault(driver, []).append(ask(seed=run))
            except NotMeasured as reason:
                missing[driver] = str(reason)
                results.pop(driver)
    return Session(results, missing)
