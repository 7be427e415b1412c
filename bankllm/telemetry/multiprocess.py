"""Metrics over several worker processes: the `/metrics` of any worker returns the sums over all of them.

    PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)   # set before a worker starts: prometheus_client reads it at import

Each worker stores its values in files of that folder. The counts of an ended worker stay in the sums, so that counters
never decrease. Its gauges are removed at the next read, and its process metrics end with the process.
"""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
from prometheus_client import Metric, ProcessCollector, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from bankllm.errors import UsageError

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def shared_folder() -> Path | None:
    """Return the folder that the workers share (PROMETHEUS_MULTIPROC_DIR); None for a single process.

    Raises `UsageError` if the variable changed after prometheus_client was imported, or does not name a folder.
    """
    value = os.environ.get(FOLDER_VARIABLE)
    if bool(value) != values.ValueClass._multiprocess:
        raise UsageError(
            f"{FOLDER_VARIABLE} is {value or 'not set'}, but it changed after prometheus_client was imported. "
            "Expected the same value since the start of the process; set it in the environment of the process."
        )
    if value and not Path(value).is_dir():
        raise UsageError(
            f"{FOLDER_VARIABLE} is {value}. Expected an existing folder that the workers share; create it first "
            f"(mkdir -p)."
        )
    return Path(value) if value else None


def live_workers(folder: Path) -> list[int]:
    """Return the ids of the workers that run, in ascending order: processes of this one's parent with a gauge."""
    return sorted(pid for pid in _pids(folder) if _is_sibling(pid))


class AllWorkers(Collector):
    """Collects the sums of the metrics of all workers, and the process metrics of each live worker.

    Process metrics have the label `pid` and are not summed: a sum of CPU seconds would decrease when a worker ends,
    which `rate()` would read as a counter reset.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collect(self) -> Iterator[Metric]:
        live = live_workers(self.folder)
        for pid in _pids(self.folder) - set(live):
            with contextlib.suppress(FileNotFoundError):  # another worker is removing the same files
                mark_process_dead(pid, str(self.folder))
        # A worker that has just started may have created a file without writing to it yet.
        files = [str(path) for path in self.folder.glob("*.db") if _size(path)]
        yield from MultiProcessCollector.merge(files)
        families: dict[str, Metric] = {}
        for pid in live:
            for metric in ProcessCollector(registry=None, pid=partial(str, pid)).collect():
                family = families.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name, sample.labels | {"pid": str(pid)}, sample.value)
        yield from families.values()


def _pids(folder: Path) -> set[int]:
    """The processes with files of gauges, which are called `gauge_<mode>_<pid>.db`."""
    return {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_*.db")}


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # a gauge's file that another worker has just removed
        return path.stat().st_size
    return 0


def _is_sibling(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return process.ppid() == os.getppid() and process.status() != psutil.STATUS_ZOMBIE
    return False
