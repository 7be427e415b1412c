"""The most recent requests of all worker processes, readable by each of them.

Each worker writes its own ring buffer, a memory-mapped file, and reads those of all workers. A ring has one writer, so
processes need no lock: the writer writes an entry before it increments the count, and a reader ignores the slot that
may be written during its copy.

The ring of an ended worker stays. Its requests remain in the total, and its durations stay in the window until newer
requests replace them. A live worker holds a file lock on its ring. The kernel releases the lock when the process ends,
so the other workers can tell which workers are alive.
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
"""One request: its end (s of the monotonic clock, which all processes of a machine share), its duration in s, and 1 for
a status 5xx, else 0."""
PACKED = struct.Struct("<dfI")
COUNT = struct.Struct("<Q")
HEADER = 16
"""Bytes before the entries: the number of entries written since the start, and padding."""


class RecentRequests:
    """The last `window` requests of this process, or of all workers with a ring in `folder`.

    Raises `UsageError` if this process already has a ring in `folder`, because its requests would be counted twice.
    """

    def __init__(self, window: int, folder: Path | None = None) -> None:
        self._window = window
        self._folder = folder
        self._slots = window + 1  # readers ignore one slot, which may be incomplete
        size = HEADER + self._slots * ENTRY.itemsize
        self._ring = mmap.mmap(-1, size) if folder is None else _publish(folder, size)
        self._written = 0
        self._lock = threading.Lock()

    def add(self, seconds: float, failed: bool) -> None:
        """Add one request that ends now and took `seconds`."""
        with self._lock:
            start = HEADER + self._written % self._slots * PACKED.size
            # A slice assignment copies the bytes; struct.pack_into would write zeros first, which a reader could see.
            self._ring[start : start + PACKED.size] = PACKED.pack(time.monotonic(), seconds, failed)
            self._written += 1
            self._ring[: COUNT.size] = COUNT.pack(self._written)

    def read(self) -> tuple[int, np.ndarray]:
        """Return the number of requests since the start and the most recent ones, over live and ended workers.

        The second item is an unordered array of `ENTRY` with at most `window` items. Raises `ServerError` if the
        files were deleted.
        """
        if self._folder is None:
            return _copy(self._ring)
        copies = [_copy_file(path) for path in self._folder.glob("*.ring")]
        if not copies:
            raise ServerError(
                f"Expected one *.ring file per worker in {self._folder}, found none: the files were deleted while the "
                "server was running. Restart the server with a folder that is not cleaned up."
            )
        entries = np.concatenate([entries for _, entries in copies])
        if len(entries) > self._window:
            entries = entries[np.argpartition(entries["at"], -self._window)[-self._window :]]
        return sum(total for total, _ in copies), entries

    def workers(self) -> int:
        """Return the number of live worker processes."""
        return 1 if self._folder is None else len(live_workers(self._folder))


def live_workers(folder: Path) -> list[int]:
    """Return the process ids of the live workers with a ring in `folder`, in ascending order."""
    pids = []
    for path in folder.glob("*.ring"):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pids.append(int(path.name.split("-")[0]))
    return sorted(pids)


def _publish(folder: Path, size: int) -> mmap.mmap:
    """Create a ring of `size` bytes. Other workers see it after it is complete and locked.

    The memory map keeps the file open, and with it the lock.
    """
    pid = os.getpid()
    if pid in live_workers(folder):
        raise UsageError(
            f"Process {pid} already counts requests in {folder}. Expected one ServerMetrics per worker process; use "
            "the existing one, or unset PROMETHEUS_MULTIPROC_DIR for independent metrics."
        )
    # The time distinguishes this ring from that of an ended process with the same id.
    path = folder / f"{pid}-{time.monotonic_ns()}.ring"
    hidden = path.with_suffix(".new")
    with hidden.open("xb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(bytes(size))  # not a sparse file, so that a full disk is an error here and not a crash later
        file.flush()
        ring = mmap.mmap(file.fileno(), size)
    hidden.rename(path)
    return ring


def _copy(ring: mmap.mmap) -> tuple[int, np.ndarray]:
    """Return the number of entries written since the start and the complete ones that are still in the ring.

    Entries that are overwritten during the copy are left out.
    """
    [before] = COUNT.unpack_from(ring)
    entries = np.frombuffer(ring[HEADER:], ENTRY)
    [after] = COUNT.unpack_from(ring)
    complete = np.arange(max(after - len(entries) + 1, 0), before)
    return before, entries[complete % len(entries)]


def _copy_file(path: Path) -> tuple[int, np.ndarray]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ring:
        return _copy(ring)
