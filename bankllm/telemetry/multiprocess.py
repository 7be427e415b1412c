"""One `/metrics` for several worker processes: whichever worker is asked shows the sums over all.

    PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)   # set before a worker starts: prometheus_client asks for it at import

Each worker keeps its values in files of that folder. The counts of one that ended stay in the sums, so that they
never fall; its gauges go (`worker_ended`), and its process' own figures with it.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from prometheus_client import Metric, ProcessCollector, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from bankllm.errors import UsageError
from bankllm.telemetry.recent_requests import live_workers

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def shared_folder() -> Path | None:
    """The folder that this process shares with the other workers; None where it counts for itself alone.

    Raises `UsageError` where the variable was changed too late, or names no folder.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if bool(named) != values.ValueClass._multiprocess:
        raise UsageError(
            f"{FOLDER_VARIABLE} is {named or 'not set'}, but prometheus_client was imported when that was otherwise. "
            "Expected it to stay as it was when the process started; set it in the environment of the process."
        )
    if named and not Path(named).is_dir():
        raise UsageError(f"{FOLDER_VARIABLE} is {named}. Expected a folder that the workers share; make it first.")
    return Path(named) if named else None


def worker_ended(folder: Path, pid: int) -> None:
    """Take the gauges of an ended worker away; its counts stay. For whoever started it, in whatever process."""
    mark_process_dead(pid, str(folder))


class AllWorkers(Collector):
    """What all workers counted, summed, and the figures of each live process under its `pid`.

    Not summed: a sum of CPU seconds would fall when a worker ends, and `rate()` would take that for a restart.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collect(self) -> Iterator[Metric]:
        # A worker that has just started may have made a file and not yet written to it.
        files = [str(path) for path in self.folder.glob("*.db") if _size(path)]
        yield from MultiProcessCollector.merge(files)
        families: dict[str, Metric] = {}
        for pid in live_workers(self.folder):
            for metric in ProcessCollector(registry=None, pid=partial(str, pid)).collect():
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name, sample.labels | {"pid": str(pid)}, sample.value)
        yield from families.values()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a gauge of a worker that `worker_ended` was told of a moment ago
        return 0
