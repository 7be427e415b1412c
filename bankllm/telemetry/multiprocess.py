"""Metrics over several worker processes: the `/metrics` of any worker returns the sums over all of them.

    PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)   # set before a worker starts: prometheus_client reads it at import

The counts of an ended worker stay in the sums, so that counters never decrease; its gauges are removed.
"""

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
from prometheus_client import Metric, ProcessCollector
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from bankllm.errors import UsageError

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def shared_folder() -> Path | None:
    """The folder that the workers share; None for a single process. Raises `UsageError` if it is missing."""
    value = os.environ.get(FOLDER_VARIABLE)
    if value and not Path(value).is_dir():
        raise UsageError(
            f"{FOLDER_VARIABLE} is {value}. Expected an existing folder that the workers share; create it (mkdir -p)."
        )
    return Path(value) if value else None


def live_workers(folder: Path) -> list[int]:
    """The ids of the workers that run: processes with a gauge and with the same parent as this one."""

    def is_sibling(pid: int) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            return process.ppid() == os.getppid() and process.status() != psutil.STATUS_ZOMBIE
        return False

    return sorted(filter(is_sibling, _pids(folder)))


class AllWorkers(Collector):
    """Collects the sums of the metrics of all workers, and the process metrics of each live worker by `pid`.

    A sum of CPU seconds would decrease when a worker ends, which `rate()` would read as a counter reset.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collect(self) -> Iterator[Metric]:
        live = live_workers(self.folder)
        for pid in _pids(self.folder).difference(live):
            with contextlib.suppress(FileNotFoundError):  # another worker is removing the same files
                mark_process_dead(pid, str(self.folder))
        # A worker that has just started may have created a file without writing to it yet.
        written = [str(path) for path in self.folder.glob("*.db") if path.exists() and path.stat().st_size]
        yield from MultiProcessCollector.merge(written)
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
