"""Group commit: writes that arrive while another is synced to disk share the next transaction, and its one sync.

commits = GroupCommit(db, lock)
commits.write("DELETE FROM rows WHERE seq = ?", [(1,), (2,)])   # returns once it is on disk

There is no thread of its own. Whoever finds nobody committing leads: it commits everything that waits, so a lone
caller waits for nobody, and no write waits for more than the commit that runs and its own.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from threading import Condition

from bankllm.vectors.sqlite_file import transaction


@dataclass(eq=False)
class _Write:
    sql: str
    values: Sequence[tuple[object, ...]]
    error: Exception | None = None
    done: bool = False


class GroupCommit:
    """Runs the writes of many threads on one connection, each all or nothing."""

    def __init__(self, db: sqlite3.Connection, lock: AbstractContextManager[object]) -> None:
        """`lock` is held while `db` is used."""
        self._db = db
        self._lock = lock
        self._turn = Condition()  # guards the two below
        self._waiting: list[_Write] = []
        self._leading = False

    def write(self, sql: str, values: Sequence[tuple[object, ...]]) -> None:
        """Run `sql` once for each of `values` and return when all of it is committed and synced.

        Raises what SQLite raises for this write; the others of its group are not touched by it.
        """
        write = _Write(sql, values)
        with self._turn:
            self._waiting.append(write)
            try:
                self._turn.wait_for(lambda: write.done or not self._leading)
            except BaseException:  # interrupted: nobody will hear of this write, so it is not made
                if write in self._waiting:
                    self._waiting.remove(write)
                raise
            lead = not write.done
            if lead:
                self._leading = True
        if lead:
            self._lead(write)
        if write.error is not None:
            raise write.error

    def _lead(self, own: _Write) -> None:
        batch: list[_Write] = []
        try:
            with self._lock:
                with self._turn:
                    batch, self._waiting = self._waiting, batch
                self._commit(batch)
        finally:
            with self._turn:
                own.done = True
                # Left over where this thread was interrupted: the next leader's. Repeating a write changes nothing.
                self._waiting[:0] = [write for write in batch if not write.done]
                self._leading = False
                self._turn.notify_all()

    def _commit(self, batch: list[_Write]) -> None:
        try:
            with transaction(self._db, "IMMEDIATE"):
                for write in batch:
                    self._db.executemany(write.sql, write.values)
        except Exception as error:  # noqa: BLE001  whatever it is, the one who asked gets it
            if len(batch) > 1 and not getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                for write in batch:  # one of them is at fault, the others must not pay for it
                    self._commit([write])
                return
            for write in batch:
                write.error = error
        for write in batch:
            write.done = True
