"""Group commit: writes that wait for the connection share the next transaction, and its one sync to disk.

lock = FairLock()
commits = GroupCommit(db, lambda: lock)
commits.write("DELETE FROM rows WHERE seq = ?", [(1,), (2,)])   # returns once it is on disk

There is no thread of its own: who gets the lock commits its own write and all that wait behind it, which then find
theirs done. A lone caller waits for nobody. The lock is fair, so that whoever searches in between is not passed over,
and what it stores afterwards still joins the group. Writes that nobody waits for ride along (`PiggybackWrite`).
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
    """A lock that threads get in the order in which they asked; `threading.Lock` lets newcomers barge in."""

    def __init__(self) -> None:
        self._guard = Lock()  # held for a moment, around the two below
        self._held = False
        self._gates: deque[Lock] = deque()

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock, `timeout` seconds at most; whether it was got."""
        with self._guard:
            if not self._held:
                self._held = True
                return True
            gate = Lock()
            gate.acquire()
            self._gates.append(gate)
        opened = False
        try:
            opened = gate.acquire(timeout=-1 if timeout is None else timeout)  # until `release` opens it
        finally:
            if not opened:  # too late, or interrupted
                with self._guard:
                    if gate in self._gates:
                        self._gates.remove(gate)
                    else:
                        self._pass_on()
        return opened

    def release(self) -> None:
        """Give the lock to whoever has waited longest."""
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
    sql: str
    values: Sequence[tuple[object, ...]]
    error: Exception | None = None
    done: bool = False


class PiggybackWrite(Protocol):
    """Has writes that nobody waits for: they go into the next commit and cost none of their own."""

    def take(self) -> list[tuple[str, Sequence[tuple[object, ...]]]]:
        """What waits to be written, as SQL and its values; it is the caller's from here on."""

    def failed(self, error: Exception) -> None:
        """Something that was taken could not be written and is lost."""


class GroupCommit:
    """Runs the writes of many threads on one connection, each of them all or nothing."""

    def __init__(
        self,
        db: sqlite3.Connection,
        held: Callable[[], AbstractContextManager[None]],
        check: Callable[[sqlite3.Connection], None] = lambda db: None,
    ) -> None:
        """`held` gives this thread the connection for itself, others being kept from it by the same.

        `check` comes first in every transaction; what it raises is raised by every write in it.
        """
        self._db = db
        self._held = held
        self._check = check
        self._waiting: deque[_Write] = deque()
        self.piggyback: PiggybackWrite | None = None

    def write(self, sql: str, values: Sequence[tuple[object, ...]]) -> None:
        """Run `sql` once for each of `values` and return when all of it is committed and synced.

        Raises what SQLite raises for this write; the others of its group are not touched by that.
        """
        own = _Write(sql, values)
        self._waiting.append(own)
        try:
            with self._held():
                if not own.done:
                    waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
                    # Its own write even where a leader took it off the queue and was interrupted.
                    self._commit_with_piggyback(
                        [own, *(write for write in waiting if write is not own and not write.done)]
                    )
        finally:
            own.done = True  # if this thread was interrupted, nobody else shall make its write
        if own.error is not None:
            raise own.error

    def flush(self, held: Callable[[], AbstractContextManager[None]]) -> None:
        """Commit what the piggyback has by itself. `held` gives this thread the connection, as `write` takes it."""
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
        except Exception as error:  # noqa: BLE001  whatever it is, the one who asked gets it
            busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")  # for all, and after a long wait
            if len(group) > 1 and not busy:
                for write in group:  # one of them is at fault, the others must not pay for it
                    self._commit([write])
                return
            for write in group:
                write.error = error
        for write in group:
            write.done = True
