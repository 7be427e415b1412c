"""The most recent requests of every worker process, so that each of them can speak for all.

A worker writes a ring of its own and reads everybody's: one writer a ring, no lock between processes. An entry is
written first and counted then, and a reader leaves out the slot that may be written while it copies.
A worker that ended leaves its ring behind: its requests stay counted, and its durations age as everybody's do, by
newer requests that push them out of the window. While it lives it holds a lock on the ring, which the kernel
releases however it ends: that is how the others know.
"""

import fcntl
import mmap
import os
import struct
import threading
import time
from pathlib import Path

import numpy as np

from bankllm.errors import ServerError, UsageError

ENTRY = np.dtype([("at", "<f8"), ("seconds", "<f4"), ("failed", "<u4")])
"""One request: when it ended (monotonic clock, one for all processes of a machine), how long it took, 1 for a 5xx."""
PACKED = struct.Struct("<dfI")
COUNT = struct.Struct("<Q")
HEADER = 16
"""Bytes before the entries: how many were ever written, and padding."""


class Recent:
    """The last `window` requests of this process, or of all whose rings lie in `folder`.

    Raises `UsageError` where this process already has a ring in that folder: its figures would be counted twice.
    """

    def __init__(self, window: int, folder: Path | None = None) -> None:
        self._window = window
        self._folder = folder
        self._slots = window + 1  # one is always left out: it may be half written
        size = HEADER + self._slots * ENTRY.itemsize
        self._ring = mmap.mmap(-1, size) if folder is None else _publish(folder, size)
        self._written = 0
        self._lock = threading.Lock()

    def add(self, seconds: float, failed: bool) -> None:
        """Keep one request that ends now."""
        with self._lock:
            start = HEADER + self._written % self._slots * PACKED.size
            # Assigned slices are plain copies; struct.pack_into would show zeros to a reader for a moment.
            self._ring[start : start + PACKED.size] = PACKED.pack(time.monotonic(), seconds, failed)
            self._written += 1
            self._ring[: COUNT.size] = COUNT.pack(self._written)

    def read(self) -> tuple[int, np.ndarray]:
        """(requests ever added, the most recent ones as `ENTRY`s in no order), of all workers, ended ones too.

        Raises `ServerError` where the folder was emptied.
        """
        if self._folder is None:
            return _copy(self._ring)
        copies = [_copy_file(path) for path in self._folder.glob("*.ring")]
        if not copies:
            raise ServerError(
                f"{self._folder} has no *.ring file. Expected one of each worker; it was emptied while the server ran: "
                "start the server again, with a folder that nothing cleans up."
            )
        entries = np.concatenate([entries for _, entries in copies])
        if len(entries) > self._window:
            entries = entries[np.argpartition(entries["at"], -self._window)[-self._window :]]
        return sum(total for total, _ in copies), entries

    def workers(self) -> int:
        """How many processes are at work now."""
        return 1 if self._folder is None else len(live_workers(self._folder))


def live_workers(folder: Path) -> list[int]:
    """The ids of the processes that hold a ring in this folder, in ascending order."""
    found = []
    for path in folder.glob("*.ring"):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(int(path.name.split("-")[0]))
    return sorted(found)


def _publish(folder: Path, size: int) -> mmap.mmap:
    """A ring that others see once it is whole and locked. The map keeps the file, and with it the lock, open."""
    pid = os.getpid()
    if pid in live_workers(folder):
        raise UsageError(
            f"Process {pid} already counts requests in {folder}. Expected one ServerMetrics a worker process there; "
            "use the one that there is, or unset PROMETHEUS_MULTIPROC_DIR for independent ones."
        )
    # The time tells it from the ring of an ended process that had the same id.
    path = folder / f"{pid}-{time.monotonic_ns()}.ring"
    hidden = path.with_suffix(".new")
    with hidden.open("xb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(bytes(size))  # not a sparse file: a full disk is an error here, and not a crash later
        file.flush()
        ring = mmap.mmap(file.fileno(), size)
    hidden.rename(path)
    return ring


def _copy(ring: mmap.mmap) -> tuple[int, np.ndarray]:
    """(requests ever written, those still there and whole). What is overwritten meanwhile is left out."""
    [before] = COUNT.unpack_from(ring)
    entries = np.frombuffer(ring[HEADER:], ENTRY)
    [after] = COUNT.unpack_from(ring)
    whole = np.arange(max(after - len(entries) + 1, 0), before)
    return before, entries[whole % len(entries)]


def _copy_file(path: Path) -> tuple[int, np.ndarray]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ring:
        return _copy(ring)
