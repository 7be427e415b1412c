"""The two layers of the embedding cache: `MemoryCache` in the process and `FileCache` in the store's file.

All processes that open the file share `FileCache`. It stores vectors under hashes of their texts. A query does not wait
for a commit: new vectors are buffered in memory and written with the next commit of rows (`PiggybackWrite`). They get a
commit of their own only if the buffer is full or the store is closed. A damaged or busy file counts as a cache miss and
is logged once; a crash loses the buffered vectors. Only `forget` and `clear` raise errors, because their callers rely
on the deletion.
"""

import logging
import math
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from sqlite3 import Connection
from threading import Lock
from typing import Protocol

import numpy as np

from bankllm.errors import StoreError
from bankllm.vectors.storage_precision import FLOAT32

logger = logging.getLogger(__name__)

MAX_BYTES = 64 * 2**20
"""Default size limit of each cache layer, in bytes."""
ENTRY_OVERHEAD = 640
"""Bytes per entry in the file besides the vector: key, two indexes, and unused space in SQLite's pages."""
WAIT_S = 0.1
"""Maximum wait for the file, in seconds: longer than a commit, but short enough not to delay a query noticeably."""
PAUSE_S = 1.0
"""After a failure the file is not read for this time, in seconds, so that not every query waits for a busy file."""
FLUSH_ENTRIES = 256
"""Number of buffered vectors that triggers a commit."""
FLUSH_TOUCHES = 4096
"""Number of buffered usage times that triggers a commit."""
READ_KEYS = 500
"""Keys per SELECT statement."""

_EPOCH = "coalesce((SELECT epoch FROM embeddings_epoch), 0)"
# The epoch increases with each deletion. An entry has the epoch that was read before its text was embedded and is
# written only if that epoch is still current, so a deleted vector cannot be written again.
_PUT = f"""INSERT INTO embeddings SELECT ?, ?, ? WHERE {_EPOCH} = ?
    ON CONFLICT (key) DO UPDATE SET vector = excluded.vector, used = excluded.used"""
_TOUCH = "UPDATE embeddings SET used = ? WHERE key = ?"
_TRIM = """DELETE FROM embeddings WHERE rowid IN
    (SELECT rowid FROM embeddings ORDER BY used DESC LIMIT -1 OFFSET ?)"""
_NEXT_EPOCH = """INSERT INTO embeddings_epoch VALUES (1, 1)
    ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1"""
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_NOTADB")


class SharedCache(Protocol):
    """Interface that an `Embedder` uses for vectors outside its process. Keys are hashes of texts."""

    def get(self, keys: Iterable[bytes]) -> tuple[dict[bytes, np.ndarray], int | None]:
        """Return the stored vectors, each (dim,) float32, and the last known epoch.

        Returns fewer vectors, or none, if the cache cannot be read. The epoch increases when any process deletes
        vectors; callers must then drop the vectors that they hold in memory.
        """

    def put(self, vectors: Mapping[bytes, np.ndarray], epoch: int | None) -> None:
        """Store vectors with a later commit, unless the epoch is no longer `epoch` (from `get`) at that time."""

    def touch(self, keys: Iterable[bytes]) -> None:
        """Mark these keys as recently used, so that others are evicted first."""

    def forget(self, keys: Iterable[bytes]) -> None:
        """Delete vectors immediately, and discard pending writes of other processes. Raises `StoreError`."""

    def clear(self) -> None:
        """Delete all vectors. Raises `StoreError`."""


class FileCache:
    """A `SharedCache` in a store's file, which uses the store's connections."""

    def __init__(
        self,
        dim: int,
        reading: Callable[[], AbstractContextManager[Connection]],
        write: Callable[[str, Sequence[tuple[object, ...]]], None],
        flush: Callable[[], None],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Use the store's functions: `reading` opens a read transaction, `write` commits, `flush` commits `take()`."""
        self.max_bytes = max_bytes
        """Size limit in the file, in bytes; the least recently used entries are evicted first. 0 disables the cache."""
        self._dim = dim
        self._epoch: int | None = None
        self._reading, self._write, self._flush = reading, write, flush
        self._lock = Lock()  # protects the two buffers below; never held while the file is read or written
        self._new: dict[bytes, tuple[bytes, int, int]] = {}
        self._used: dict[bytes, int] = {}
        self._warned = False
        self._paused_until = -math.inf

    @property
    def _max_entries(self) -> int:
        """Number of entries that fit into `max_bytes`."""
        return self.max_bytes // (FLOAT32.itemsize * self._dim + ENTRY_OVERHEAD)

    def get(self, keys: Iterable[bytes]) -> tuple[dict[bytes, np.ndarray], int | None]:
        """Return the stored vectors that are not damaged, and the last known epoch."""
        wanted = list(keys)
        found: list[tuple[bytes, bytes]] = []
        if not wanted or not self._max_entries or time.monotonic() < self._paused_until:
            return {}, self._epoch
        try:
            with self._reading() as db:
                epoch = int(db.execute(f"SELECT {_EPOCH}").fetchone()[0])
                for start in range(0, len(wanted), READ_KEYS):
                    part = wanted[start : start + READ_KEYS]
                    marks = ",".join("?" * len(part))
                    found += db.execute(f"SELECT key, vector FROM embeddings WHERE key IN ({marks})", part).fetchall()
        except StoreError as error:
            self.failed(error)
            return {}, self._epoch
        self._epoch = epoch
        size = FLOAT32.itemsize * self._dim
        vectors = {key: np.frombuffer(blob, FLOAT32).astype(np.float32) for key, blob in found if len(blob) == size}
        valid = {key: vector for key, vector in vectors.items() if abs(float(vector @ vector) - 1) < 1e-3}
        self.touch(valid)
        return valid, epoch

    def put(self, vectors: Mapping[bytes, np.ndarray], epoch: int | None) -> None:
        """Buffer vectors for the next commit; commit immediately if the buffer is full."""
        if epoch is None or not self._max_entries:
            return
        now = _now_ms()
        with self._lock:
            for key, vector in vectors.items():
                self._new[key] = (vector.astype(FLOAT32).tobytes(), now, epoch)
            full = len(self._new) >= FLUSH_ENTRIES
        if full:
            self.flush()

    def touch(self, keys: Iterable[bytes]) -> None:
        """Buffer the usage time of these keys for the next commit; commit immediately if the buffer is full."""
        if not self._max_entries:
            return
        now = _now_ms()
        with self._lock:
            self._used.update((key, now) for key in keys)
            full = len(self._used) >= FLUSH_TOUCHES
        if full:
            self.flush()

    def flush(self) -> None:
        """Commit the buffered writes."""
        if not (self._new or self._used):
            return
        try:
            self._flush()
        except StoreError as error:
            self.failed(error)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Delete vectors from the buffer and the file; the new epoch invalidates the buffers of other processes."""
        deleted = list(keys)
        if not deleted:
            return
        with self._lock:
            for key in deleted:
                self._new.pop(key, None)
                self._used.pop(key, None)
        self._write(_NEXT_EPOCH, [()])
        self._write("DELETE FROM embeddings WHERE key = ?", [(key,) for key in deleted])

    def clear(self) -> None:
        """Delete all vectors, and invalidate the buffers of other processes."""
        with self._lock:
            self._new, self._used = {}, {}
        self._write(_NEXT_EPOCH, [()])
        self._write("DELETE FROM embeddings", [()])

    def take(self) -> list[tuple[str, Sequence[tuple[object, ...]]]]:
        """Return and clear the buffered writes; the next commit includes them (`group_commit.PiggybackWrite`)."""
        with self._lock:
            new, self._new = self._new, {}
            used, self._used = self._used, {}
        writes: list[tuple[str, Sequence[tuple[object, ...]]]] = []
        if self._paused_until == math.inf:
            return writes
        if used:
            writes.append((_TOUCH, [(when, key) for key, when in used.items()]))
        if new and (limit := self._max_entries):
            rows = [(key, blob, when, epoch) for key, (blob, when, epoch) in new.items()][-limit:]
            writes.append((_TRIM, [(limit - len(rows),)]))  # first, so that the new entries reuse the freed pages
            writes.append((_PUT, rows))
        return writes

    def failed(self, error: Exception) -> None:
        """Log the first failure. Pause the cache, or disable it if its table is damaged."""
        cause = error if error.__cause__ is None else error.__cause__
        damaged = getattr(cause, "sqlite_errorname", "").startswith(_DAMAGE)
        self._paused_until = max(self._paused_until, math.inf if damaged else time.monotonic() + PAUSE_S)
        if not self._warned:
            self._warned = True
            logger.warning(
                "The embedding cache in the store's file failed; affected texts are embedded again: %s", error
            )


def clear_embeddings(db: Connection) -> None:
    """Delete all vectors in the caller's transaction, and invalidate the buffers of other processes."""
    db.execute(_NEXT_EPOCH)
    db.execute("DELETE FROM embeddings")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class CacheCounts:
    """Number of texts by the source of their vector. Thread-safe."""

    memory: int = 0
    """Found in the memory cache, or repeated within one batch."""
    shared: int = 0
    """Found in the shared layer."""
    missed: int = 0
    """Encoded by the model."""
    observe: Callable[[int, int, int], None] = field(default=lambda *counts: None, repr=False, compare=False)
    """Callback for metrics; `add` calls it with the added counts (memory, shared, missed)."""
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, *, memory: int, shared: int, missed: int) -> None:
        with self._lock:
            self.memory += memory
            self.shared += shared
            self.missed += missed
        self.observe(memory, shared, missed)

    def reset(self) -> None:
        with self._lock:
            self.memory = self.shared = self.missed = 0

    @property
    def hit_rate(self) -> float:
        """Hits in either layer as a share of all texts; 0 before the first hit."""
        return _share(self.memory + self.shared, self.missed)

    @property
    def memory_hit_rate(self) -> float:
        """Hits in memory as a share of all texts; 0 before the first hit."""
        return _share(self.memory, self.shared + self.missed)

    @property
    def shared_hit_rate(self) -> float:
        """Hits in the shared layer as a share of the texts that were not in memory; 0 before the first hit."""
        return _share(self.shared, self.missed)


class MemoryCache:
    """LRU cache of vectors by key, limited to `max_bytes`. Thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._vectors: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """Size of keys and vectors in memory, in bytes."""
        return self._nbytes

    def get(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """Return the cached vectors and mark them as the most recently used."""
        with self._lock:
            found = {key: self._vectors[key] for key in keys if key in self._vectors}
            for key in found:
                self._vectors.move_to_end(key)
            return found

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Add vectors and evict the least recently used ones beyond `max_bytes`."""
        with self._lock:
            for key, vector in vectors.items():
                if key not in self._vectors:  # another thread may have added it in the meantime
                    self._vectors[key] = vector
                    self._nbytes += _size(key, vector)
            while self._nbytes > self.max_bytes:
                self._nbytes -= _size(*self._vectors.popitem(last=False))

    def forget(self, keys: Iterable[bytes]) -> None:
        """Delete these keys; keys that are not cached are ignored."""
        with self._lock:
            for key in keys:
                vector = self._vectors.pop(key, None)
                if vector is not None:
                    self._nbytes -= _size(key, vector)

    def clear(self) -> None:
        """Delete all vectors."""
        with self._lock:
            self._vectors.clear()
            self._nbytes = 0


def _share(hits: int, others: int) -> float:
    return hits / (hits + others) if hits else 0.0


def _size(key: bytes, vector: np.ndarray) -> int:
    return sys.getsizeof(key) + sys.getsizeof(vector)
