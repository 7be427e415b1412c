"""One SQLite connection that many threads share: fair turns, a time limit, and group commit.

Concurrent writes share one transaction and one sync to disk: the thread whose turn it is commits every queued write.
"""

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from bankllm.errors import StoreError
from bankllm.util.sqlite import transaction
from bankllm.vectors.sqlite.file import BUSY_TIMEOUT_S, check_vectors, open_file, store_errors


class FairLock:
    """A lock with first-in-first-out order, so that a thread that writes without a pause does not starve searches."""

    def __init__(self) -> None:
        self._guard = Lock()  # protects the queue; held only briefly
        self._gates: deque[Lock] = deque()  # one per thread: the first one holds the lock

    def acquire(self, timeout: float = -1) -> bool:
        """Wait for the lock, at most `timeout` seconds (−1: without a limit); return whether it was acquired."""
        gate = Lock()
        with self._guard:
            self._gates.append(gate)
            if self._gates[0] is gate:
                return True
            gate.acquire()
        opened = False
        try:
            opened = gate.acquire(timeout=timeout)  # the previous holder releases the gate
        finally:
            if not opened:  # timed out or interrupted
                self._leave(gate)
        return opened

    def release(self) -> None:
        self._leave(self._gates[0])

    def _leave(self, gate: Lock) -> None:
        with self._guard:
            held = self._gates[0] is gate
            self._gates.remove(gate)
            if held and self._gates:
                self._gates[0].release()


@dataclass(eq=False)
class _Write:
    sql: str
    values: Sequence[tuple[object, ...]]
    error: Exception | None = None
    done: bool = False


class SharedConnection:
    """A connection to a store's file. Each call raises `StoreError` if it fails or waits longer than `wait_s`."""

    def __init__(self, path: Path | None, dim: int, embedder_id: str, wait_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = path
        self.lock = FairLock()
        self._vectors = (dim, embedder_id)
        self._wait_s = wait_s
        self._db = open_file(path, dim, embedder_id, wait_s)
        self._waiting: deque[_Write] = deque()
        self._closed = False

    @contextmanager
    def exclusive(self) -> Iterator[sqlite3.Connection]:
        until = time.monotonic() + self._wait_s
        if not self.lock.acquire(self._wait_s):
            name = self.path or "in memory"
            raise StoreError(f"The vector store {name} was busy for more than {self._wait_s:g} s. Try again later.")
        try:
            with store_errors(self.path):
                # The time already waited for the lock counts: the whole call waits at most `wait_s` seconds.
                left_ms = max(0, round(1000 * (until - time.monotonic())))
                self._db.execute(f"PRAGMA busy_timeout = {left_ms}")
                yield self._db
        finally:
            self.lock.release()

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self.exclusive() as db, transaction(db, "DEFERRED"):
            check_vectors(db, self.path, *self._vectors)
            yield db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own, for a write that depends on what it reads."""
        with self.exclusive() as db, transaction(db, "IMMEDIATE"):
            check_vectors(db, self.path, *self._vectors)
            yield db

    def read(self, sql: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[Any]:
        """Return all rows of one query."""
        with self.reading() as db:
            return db.execute(sql, values).fetchall()

    def write(self, sql: str, values: Sequence[tuple[object, ...]]) -> None:
        """Run `sql` once per item of `values`, all or none; return when that is synced to disk."""
        own = _Write(sql, values)
        self._waiting.append(own)
        try:
            with self.exclusive():
                if not own.done:
                    waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
                    # Includes this write even if another thread removed it from the queue and was interrupted.
                    self._commit([own, *(write for write in waiting if write is not own and not write.done)])
        finally:
            own.done = True  # if this thread was interrupted, no other thread may run its write
        if own.error is not None:
            with store_errors(self.path):
                raise own.error

    def close(self, before: Callable[[sqlite3.Connection], None] = lambda db: None) -> None:
        """Call `before` with exclusive access, then close the connection; a second call has no effect."""
        self.lock.acquire()
        try:
            if not self._closed:
                self._closed = True
                before(self._db)
                self._db.close()
        finally:
            self.lock.release()

    def _commit(self, group: list[_Write]) -> None:
        """Commit all writes or none: their values are checked, so an error is one of the file or the disk."""
        failed = None
        try:
            with transaction(self._db, "IMMEDIATE"):
                check_vectors(self._db, self.path, *self._vectors)
                for write in group:
                    self._db.executemany(write.sql, write.values)
        except Exception as error:  # noqa: BLE001  any exception is passed to the callers of `write`
            failed = error
        for write in group:
            write.error, write.done = failed, True
