"""The layer of the embedder's cache that processes share: vectors in the store's file, under hashes of their texts.

A query never pays for a commit: what is new waits in memory, rides along with the next rows that are stored, and is
committed alone only when much has gathered or at close. It is a cache: a file that is damaged or busy is a miss,
said once in the log, and a crash loses what waited. Only `forget` and `clear` raise, since they make a promise.
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
ENTRY_OVERHEAD = 640
"""Bytes that an entry takes beside its vector: key, two indexes, and what is left over of SQLite's pages."""
WAIT_S = 0.1
"""Longer than a commit, shorter than anybody should wait for a cache."""
PAUSE_S = 1.0
"""After a failure the file is left alone for so long, so that a busy one is not waited for by every text."""
FLUSH_ENTRIES = 256
FLUSH_TOUCHES = 4096
READ_KEYS = 500

_EPOCH = "coalesce((SELECT epoch FROM embeddings_epoch), 0)"
# An entry is as old as the epoch that was read before its text was embedded: what was forgotten since stays away.
_PUT = f"""INSERT INTO embeddings SELECT ?, ?, ? WHERE {_EPOCH} = ?
    ON CONFLICT (key) DO UPDATE SET vector = excluded.vector, used = excluded.used"""
_TOUCH = "UPDATE embeddings SET used = ? WHERE key = ?"
_TRIM = """DELETE FROM embeddings WHERE rowid IN
    (SELECT rowid FROM embeddings ORDER BY used DESC LIMIT -1 OFFSET ?)"""
_NEXT_EPOCH = """INSERT INTO embeddings_epoch VALUES (1, 1)
    ON CONFLICT (id) DO UPDATE SET epoch = epoch + 1"""
_DAMAGE = ("SQLITE_CORRUPT", "SQLITE_ERROR", "SQLITE_NOTADB")


class SharedCache(Protocol):
    """What an `Embedder` asks of vectors that are kept outside its process. Keys are hashes of texts."""

    def get(self, keys: Iterable[bytes]) -> tuple[dict[bytes, np.ndarray], int | None]:
        """The vectors that are there (fewer, or none, where they cannot be read), and the epoch as last seen.

        It moves on when any process forgets texts: vectors in memory from before are to be dropped.
        """

    def put(self, vectors: Mapping[bytes, np.ndarray], epoch: int | None) -> None:
        """Keep vectors, at some time later on, unless the epoch that `get` gave for them is over by then."""

    def touch(self, keys: Iterable[bytes]) -> None:
        """These were used elsewhere: drop others first."""

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove vectors here and now, and what other processes would write of them. Raises `StoreError`."""

    def clear(self) -> None:
        """Remove all vectors. Raises `StoreError`."""


class FileCache:
    """A `SharedCache` in a store's file, on the store's own connections."""

    def __init__(
        self,
        dim: int,
        reading: Callable[[], AbstractContextManager[Connection]],
        write: Callable[[str, Sequence[tuple[object, ...]]], None],
        flush: Callable[[], None],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """`reading` opens a transaction, `write` commits, `flush` commits what `take` gives; as `SQLiteStore` does."""
        self.max_bytes = max_bytes
        """The least recently used go first; 0 keeps nothing."""
        self._dim = dim
        self._epoch: int | None = None
        self._reading, self._write, self._flush = reading, write, flush
        self._lock = Lock()  # held for a moment; never while the file is read or written
        self._new: dict[bytes, tuple[bytes, int, int]] = {}
        self._used: dict[bytes, int] = {}
        self._said = False
        self._paused_until = -math.inf

    @property
    def _room(self) -> int:
        """Entries that fit."""
        return self.max_bytes // (FLOAT32.itemsize * self._dim + ENTRY_OVERHEAD)

    def get(self, keys: Iterable[bytes]) -> tuple[dict[bytes, np.ndarray], int | None]:
        """The vectors that are there and whole, and the epoch as last seen."""
        wanted = list(keys)
        found: list[tuple[bytes, bytes]] = []
        if not wanted or not self._room or time.monotonic() < self._paused_until:
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
        whole = {key: vector for key, vector in vectors.items() if abs(float(vector @ vector) - 1) < 1e-3}
        self.touch(whole)
        return whole, epoch

    def put(self, vectors: Mapping[bytes, np.ndarray], epoch: int | None) -> None:
        """Let vectors wait for the next commit; at once if there are many."""
        if epoch is None or not self._room:
            return
        now = _now_ms()
        with self._lock:
            for key, vector in vectors.items():
                self._new[key] = (vector.astype(FLOAT32).tobytes(), now, epoch)
            full = len(self._new) >= FLUSH_ENTRIES
        if full:
            self.flush()

    def touch(self, keys: Iterable[bytes]) -> None:
        """Remember that these were used, without a commit of its own unless there are very many."""
        if not self._room:
            return
        now = _now_ms()
        with self._lock:
            self._used.update((key, now) for key in keys)
            full = len(self._used) >= FLUSH_TOUCHES
        if full:
            self.flush()

    def flush(self) -> None:
        """Commit what waits."""
        if not (self._new or self._used):
            return
        try:
            self._flush()
        except StoreError as error:
            self.failed(error)

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove vectors: waiting, in the file, and, by the epoch, what waits in other processes."""
        gone = list(keys)
        if not gone:
            return
        with self._lock:
            for key in gone:
                self._new.pop(key, None)
                self._used.pop(key, None)
        self._write(_NEXT_EPOCH, [()])
        self._write("DELETE FROM embeddings WHERE key = ?", [(key,) for key in gone])

    def clear(self) -> None:
        """Remove all vectors, those that wait in other processes too."""
        with self._lock:
            self._new, self._used = {}, {}
        self._write(_NEXT_EPOCH, [()])
        self._write("DELETE FROM embeddings", [()])

    def take(self) -> list[tuple[str, Sequence[tuple[object, ...]]]]:
        """What waits, for whoever commits next (`group_commit.PiggybackWrite`)."""
        with self._lock:
            new, self._new = self._new, {}
            used, self._used = self._used, {}
        writes: list[tuple[str, Sequence[tuple[object, ...]]]] = []
        if self._paused_until == math.inf:
            return writes
        if used:
            writes.append((_TOUCH, [(when, key) for key, when in used.items()]))
        if new and (room := self._room):
            rows = [(key, blob, when, epoch) for key, (blob, when, epoch) in new.items()][-room:]
            writes.append((_TRIM, [(room - len(rows),)]))  # first, so that the new ones take the pages of the old
            writes.append((_PUT, rows))
        return writes

    def failed(self, error: Exception) -> None:
        """Say once what is wrong, and leave a damaged table alone from then on."""
        cause = error if error.__cause__ is None else error.__cause__
        damaged = getattr(cause, "sqlite_errorname", "").startswith(_DAMAGE)
        self._paused_until = max(self._paused_until, math.inf if damaged else time.monotonic() + PAUSE_S)
        if not self._said:
            self._said = True
            logger.warning("texts are embedded again where the cache in the store's file fails: %s", error)


def clear_embeddings(db: Connection) -> None:
    """Remove all vectors within the caller's transaction, those that wait in other processes too."""
    db.execute(_NEXT_EPOCH)
    db.execute("DELETE FROM embeddings")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class CacheCounts:
    """Texts by where their vector came from."""

    memory: int = 0
    shared: int = 0
    missed: int = 0
    """The model encoded them."""
    observe: Callable[[int, int, int], None] = field(default=lambda *counts: None, repr=False, compare=False)
    """Hears what `add` adds; for metrics."""
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
        """Share of all texts that needed no model; 0 before the first."""
        return _share(self.memory + self.shared, self.missed)

    @property
    def memory_hit_rate(self) -> float:
        """Share of all texts that memory answered."""
        return _share(self.memory, self.shared + self.missed)

    @property
    def shared_hit_rate(self) -> float:
        """Share that the shared layer answered, of the texts that memory did not."""
        return _share(self.shared, self.missed)


class MemoryCache:
    """Vectors by key; drops the least recently used ones beyond `max_bytes`. Safe to use from several threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._vectors: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """What vectors and keys take in memory."""
        return self._nbytes

    def get(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are here; they are the most recently used ones now."""
        with self._lock:
            found = {key: self._vectors[key] for key in keys if key in self._vectors}
            for key in found:
                self._vectors.move_to_end(key)
            return found

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep these, as far as there is room."""
        with self._lock:
            for key, vector in vectors.items():
                if key not in self._vectors:  # another thread may have encoded it meanwhile
                    self._vectors[key] = vector
                    self._nbytes += _size(key, vector)
            while self._nbytes > self.max_bytes:
                self._nbytes -= _size(*self._vectors.popitem(last=False))

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove these, where they are here."""
        with self._lock:
            for key in keys:
                vector = self._vectors.pop(key, None)
                if vector is not None:
                    self._nbytes -= _size(key, vector)

    def clear(self) -> None:
        """Remove all of them."""
        with self._lock:
            self._vectors.clear()
            self._nbytes = 0


def _share(hits: int, others: int) -> float:
    return hits / (hits + others) if hits else 0.0


def _size(key: bytes, vector: np.ndarray) -> int:
    return sys.getsizeof(key) + sys.getsizeof(vector)
