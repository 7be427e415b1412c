"""Group commit: concurrent writes share one transaction and one sync to disk.

lock = FairLock()
commits = GroupCommit(db, lambda: lock)
commits.write("DELETE FROM rows WHERE seq = ?", [(1,), (2,)])   # returns once it is on disk

There is no background thread. The thread that acquires the lock commits every queued write, including its own; the
other threads then return without committing. A single writer is not delayed. The lock is fair, so threads that search
between two writes are not starved. Low-priority writes are added to the next transaction (`PiggybackWrite`).
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from bankllm.vectors.sqlite.connection import transaction


class FairLock:
    """A lock that threads acquire in first-in-first-out order, which `threading.Lock` does not guarantee."""

    def __init__(self) -> None:
        self._guard = Lock()  # protects the two fields below; held only briefly
        self._held = False
        self._gates: deque[Lock] = deque()

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most `timeout` seconds; return whether it was acquired."""
        with self._guard:
            if not self._held:
                self._held = True
                return True
            gate = Lock()
            gate.acquire()
            self._gates.append(gate)
        opened = False
        try:
            opened = gate.acquire(
                timeout=-1 if timeout is None else timeout
            )  # `release` of the previous holder releases the gate
        finally:
            if not opened:  # timed out or interrupted
                with self._guard:
                    if gate in self._gates:
                        self._gates.remove(gate)
                    else:
                        self._pass_on()
        return opened

    def release(self) -> None:
        """Pass the lock to the thread that has waited longest."""
        with self._guard:
            self._pass_on()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _pass_on(self) -> None:
        if self._gates:
            self._gates.popleft().release()
        else:
            self._held = False


@dataclass(eq=False)
class _Write:
    """A queued write: `sql` is run once per item of `values`."""

    sql: str
    values: Sequence[tuple[object, ...]]
    error: Exception | None = None
    done: bool = False


class PiggybackWrite(Protocol):
    """Source of writes that no thread waits for. They are added to the next commit and need none of their own."""

    def take(self) -> list[tuple[str, Sequence[tuple[object, ...]]]]:
        """Return the pending writes (SQL and its values) and forget them; the caller now owns them."""

    def failed(self, error: Exception) -> None:
        """Called if a write from `take` failed; that write is lost."""


class GroupCommit:
    """Runs the writes of many threads on one connection; each write is atomic."""

    def __init__(
        self,
        db: sqlite3.Connection,
        held: Callable[[], AbstractContextManager[None]],
        check: Callable[[sqlite3.Connection], None] = lambda db: None,
    ) -> None:
        """Use the connection `db`; `held` returns a context manager that gives this thread exclusive access to it.

        `check` runs first in each transaction; if it raises, each write of the transaction raises its exception.
        """
        self._db = db
        self._held = held
        self._check = check
        self._waiting: deque[_Write] = deque()
        self.piggyback: PiggybackWrite | None = None

    def write(self, sql: str, values: Sequence[tuple[object, ...]]) -> None:
        """Run `sql` once per item of `values` and return when all are committed and synced to disk.

        Raises SQLite's exception for this write; it does not affect the other writes of the group.
        """
        own = _Write(sql, values)
        self._waiting.append(own)
        try:
            with self._held():
                if not own.done:
                    waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
                    # Includes this write even if another thread removed it from the queue and was interrupted.
                    self._commit_with_piggyback(
                        [own, *(write for write in waiting if write is not own and not write.done)]
                    )
        finally:
            own.done = True  # if this thread was interrupted, no other thread may run its write
        if own.error is not None:
            raise own.error

    def flush(self, held: Callable[[], AbstractContextManager[None]]) -> None:
        """Commit only the piggyback writes. `held` gives this thread exclusive access to the connection."""
        with held():
            self._commit_with_piggyback([])

    def _commit_with_piggyback(self, group: list[_Write]) -> None:
        piggybacked = [_Write(*taken) for taken in self.piggyback.take()] if self.piggyback else []
        if group or piggybacked:
            self._commit([*group, *piggybacked])
        for write in piggybacked:
            if self.piggyback and write.error is not None:
                self.piggyback.failed(write.error)

    def _commit(self, group: list[_Write]) -> None:
        try:
            with transaction(self._db, "IMMEDIATE"):
                self._check(self._db)
                for write in group:
                    self._db.executemany(write.sql, write.values)
        except Exception as error:  # noqa: BLE001  any exception is passed to the caller of `write`
            # A busy file fails all writes of the group: retrying each one would repeat the long wait.
            busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            if len(group) > 1 and not busy:
                for write in group:  # one write is invalid: commit each separately, so that the others succeed
                    self._commit([write])
                return
            for write in group:
                write.error = error
        for write in group:
            write.done = True
