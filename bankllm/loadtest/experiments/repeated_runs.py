"""Repeat the loads of several drivers, to report each result with its spread over runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from bankllm.loadtest.load import LoadResult, RequestRow


def run_session(loads: Mapping[str, Callable[..., LoadResult]], runs: int) -> dict[str, list[LoadResult]]:
    """Run each load `runs` times, and return one result per run of each driver.

    The drivers alternate, so that changes on the machine affect all of them. `loads` is driver → function of the
    keyword `seed`, the number of the run from 1.
    """
    results: dict[str, list[LoadResult]] = {}
    for run in range(1, runs + 1):
        for driver, load in loads.items():
            results.setdefault(driver, []).append(load(seed=run))
    return results


def rows_of(results: Sequence[LoadResult]) -> Iterator[RequestRow]:
    """Yield the measured requests of all runs of a driver: the column `run`, then those of `load.COLUMNS`."""
    for run, result in enumerate(results, start=1):
        yield from ({"run": run, **row} for row in result.measured)


def summaries(results: Sequence[LoadResult]) -> list[RequestRow]:
    """Return one row per run of a driver: `run`, and the columns of `LoadResult.summary`."""
    return [{"run": run, **result.summary()} for run, result in enumerate(results, start=1)]


def invalid_because(results: Sequence[LoadResult]) -> str | None:
    """Return why runs of a driver are invalid, with the numbers of the runs; None if all runs are valid."""
    faults = [f"run {row['run']}: {row['invalid_because']}" for row in summaries(results) if row["invalid_because"]]
    return "; ".join(faults) or None
