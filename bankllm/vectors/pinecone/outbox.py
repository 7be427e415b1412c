"""The local part of a replicated store: a `SQLiteStore` with an outbox of changes that must be pushed to Pinecone.

outbox = OutboxStore(Path("memory.sqlite"), 384, embedder_id, target="bankllm (customer)")
outbox.upsert("CUST001", rows)        # rows and outbox entries in one commit
for entry, row in outbox.next_entries(): …

After a delete was pushed, its entry stays in the outbox for a while. Pinecone is eventually consistent and may still
return the deleted row; the remaining entries tell searches which rows to hide (`pending_deletes`).
"""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bankllm.errors import StoreError
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.connection import BUSY_TIMEOUT_S, store_errors, transaction
from bankllm.vectors.sqlite.schema import NOW, REPLICATES_TO
from bankllm.vectors.sqlite.store import SQLiteStore

PAGE_ENTRIES = 1000
"""Entries returned by one call of `next_entries`."""
FETCH_ROWS = 100
"""Rows per read, so that searches can run in between."""
MAX_HIDE_S = 600.0
"""Maximum time in seconds that a deleted row is hidden; Pinecone normally indexes a delete within seconds."""
MIN_HIDE_S = 10.0
"""Minimum time in seconds that a deleted row is hidden, because Pinecone's servers do not all apply it at once."""
_ROW_GONE = "NOT EXISTS (SELECT 1 FROM rows WHERE namespace = o.namespace AND id = o.id)"
_WAITS = "pushed_at IS NULL AND refused IS NULL"


class Entry(NamedTuple):
    """A row whose current state must be pushed."""

    seq: int
    version: int
    """Increases with each change of the row, so that an entry that changes during its push is pushed again."""
    namespace: str
    id: str
    """The row's id; empty if the whole namespace was deleted."""


class Backlog(NamedTuple):
    """How far Pinecone is behind the file."""

    depth: int
    """Entries not yet pushed."""
    oldest_s: float
    """Age of the oldest of these entries in seconds; 0 if there are none."""
    parked: int
    """Entries that Pinecone rejected permanently; the next process that pushes retries them once."""


class PendingDeletes(NamedTuple):
    """Deletes in a namespace that Pinecone may not have applied yet; searches filter these ids out."""

    whole_namespace: bool
    """The whole namespace was deleted, and Pinecone may not have applied that yet."""
    ids: frozenset[str]
    """Ids of deleted rows; contains the empty string if `whole_namespace`."""
    stale: int
    """Number of rows that Pinecone may return in an outdated state; includes `ids`."""
    lsn: int | None
    """Lowest log position at which Pinecone has applied one of the deletes; None if no delete has been acknowledged."""


class OutboxStore(SQLiteStore):
    """A `SQLiteStore` that records its changes in an outbox for replication."""

    def __init__(
        self,
        path: Path | None,
        dim: int,
        embedder_id: str,
        *,
        target: str,
        wait_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        """Open as `SQLiteStore` does. If the file was not replicated to `target` before, queue all its rows.

        `target` names the Pinecone index and layout. Also raises `StoreError` if deletes for another target are still
        in the outbox.
        """
        super().__init__(path, dim, embedder_id, wait_s=wait_s)
        try:
            self._replicate_to(target)
        except BaseException:
            self.close()
            raise

    def next_entries(self) -> list[tuple[Entry, Row | None]]:
        """Return the next `PAGE_ENTRIES` entries in order, each with its current row; None if the row was deleted."""
        with self._reading() as db:
            # The entry is read before its row. If the row changes in between, the entry's version increases.
            found = db.execute(
                f"SELECT seq, version, namespace, id FROM outbox WHERE {_WAITS} ORDER BY seq LIMIT ?", (PAGE_ENTRIES,)
            ).fetchall()
        entries = [Entry(*columns) for columns in found]
        ids: dict[str, list[str]] = {}
        for entry in entries:
            ids.setdefault(entry.namespace, []).append(entry.id)
        rows = {
            (namespace, row.id): row
            for namespace, wanted in ids.items()
            for start in range(0, len(wanted), FETCH_ROWS)
            for row in self.fetch(namespace, wanted[start : start + FETCH_ROWS])
        }
        return [(entry, rows.get((entry.namespace, entry.id))) for entry in entries]

    def mark_upserted(self, entries: Sequence[Entry]) -> None:
        """Record that Pinecone has these rows: delete the entries that have not changed since they were read."""
        self._write("DELETE FROM outbox WHERE seq = ? AND version = ?", [entry[:2] for entry in entries])

    def mark_deleted(self, entries: Sequence[Entry]) -> None:
        """Record that Pinecone accepted these deletes; the rows stay hidden until Pinecone has applied them."""
        self._write(
            f"UPDATE outbox SET pushed_at = {NOW}, known = 0 WHERE seq = ? AND version = ?",
            [entry[:2] for entry in entries],
        )

    def park(self, entry: Entry, reason: str) -> None:
        """Record that Pinecone rejected this entry permanently."""
        self._write("UPDATE outbox SET refused = ? WHERE seq = ? AND version = ?", [(reason, *entry[:2])])

    def unpark(self) -> None:
        """Queue all parked entries again."""
        if self.backlog().parked:
            self._write("UPDATE outbox SET refused = NULL WHERE refused IS NOT NULL", [()])

    def set_lsn(self, lsn: int, namespace: str | None) -> None:
        """Record `lsn` as Pinecone's log position after the deletes pushed so far, in one namespace or (None) in all.

        Deletes of a whole namespace get no position, because Pinecone then starts a new log for that namespace.
        """
        where, values = ("", (lsn,)) if namespace is None else (" AND namespace = ?", (lsn, namespace))
        condition = "pushed_at IS NOT NULL AND lsn IS NULL AND id <> ''" + where
        with self._reading() as db:
            if not db.execute(f"SELECT 1 FROM outbox WHERE {condition} LIMIT 1", values[1:]).fetchone():
                return
        self._write(f"UPDATE outbox SET lsn = ? WHERE {condition}", [values])

    def confirm_deletes(self, namespace: str, lsn: int) -> None:
        """Stop hiding deletes up to log position `lsn`, because a search in Pinecone included all of them.

        Deletes are hidden for at least `MIN_HIDE_S`.
        """
        self._write(
            "DELETE FROM outbox WHERE namespace = ? AND pushed_at < ? AND lsn <= ?",
            [(namespace, time.time() - MIN_HIDE_S, lsn)],
        )

    def expire(self) -> None:
        """Stop hiding deletes that Pinecone accepted more than `MAX_HIDE_S` ago."""
        before = (time.time() - MAX_HIDE_S,)
        with self._reading() as db:
            if not db.execute("SELECT 1 FROM outbox WHERE pushed_at < ? LIMIT 1", before).fetchone():
                return
        self._write("DELETE FROM outbox WHERE pushed_at < ?", [before])

    def pending_deletes(self, namespace: str) -> PendingDeletes:
        """Return the deletes in a namespace that Pinecone may not have applied yet."""
        with self._reading() as db:
            found = db.execute(
                f"SELECT id, lsn, {_ROW_GONE} AS gone FROM outbox AS o WHERE namespace = ? AND (known > 0 OR gone)",
                (namespace,),
            ).fetchall()
        ids = frozenset(id_ for id_, _, gone in found if gone)
        return PendingDeletes(
            "" in ids, ids, len(found), min((lsn for _, lsn, _ in found if lsn is not None), default=None)
        )

    def own_ids(self, namespace: str, ids: Collection[str] | None = None) -> set[str]:
        """Return the ids of the namespace's rows in the file; if `ids` is given, only those of them."""
        with self._reading() as db:
            if ids is None:
                return {id_ for (id_,) in db.execute("SELECT id FROM rows WHERE namespace = ?", (namespace,))}
            one = "SELECT 1 FROM rows WHERE namespace = ? AND id = ?"
            return {id_ for id_ in ids if db.execute(one, (namespace, id_)).fetchone()}

    def counts(self, namespace: str | None) -> tuple[int, int]:
        """Return the number of rows in the file, and how many rows that this file pushed are in Pinecone."""
        where, values = ("", ()) if namespace is None else (" AND o.namespace = ?", (namespace,))
        with self._reading() as db:
            here = db.execute(f"SELECT count(*) FROM rows AS o WHERE true{where}", values).fetchone()[0]
            fresh, gone = db.execute(
                f"""SELECT coalesce(sum(known = 0 AND NOT gone), 0), coalesce(sum(iif(gone, known, 0)), 0)
                FROM (SELECT known, {_ROW_GONE} AS gone FROM outbox AS o WHERE true{where})""",
                values,
            ).fetchone()
        return int(here), int(here - fresh + gone)

    def backlog(self) -> Backlog:
        """Return how far Pinecone is behind the file, including the writes of other processes."""
        with self._reading() as db:
            depth, oldest = db.execute(f"SELECT count(*), min(queued_at) FROM outbox WHERE {_WAITS}").fetchone()
            parked = db.execute("SELECT count(*) FROM outbox WHERE refused IS NOT NULL").fetchone()[0]
        return Backlog(depth, max(0.0, time.time() - oldest) if depth else 0.0, parked)

    def _replicate_to(self, target: str) -> None:
        with self._held(self._db, self._lock), store_errors(self.path), transaction(self._db, "IMMEDIATE"):
            kept = self._db.execute("SELECT value FROM meta WHERE key = ?", (REPLICATES_TO,)).fetchone()
            if kept == (target,):
                return
            pending = self._db.execute(f"SELECT count(*) FROM outbox AS o WHERE pushed_at IS NULL AND {_ROW_GONE}")
            if count := pending.fetchone()[0]:
                raise StoreError(
                    f"{self.path} has {count} deletes that were not pushed to Pinecone's index {kept[0]}; expected "
                    f"none before the file replicates to {target}. Open the file with the previous Pinecone settings "
                    "until its outbox is empty, then try again."
                )
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (REPLICATES_TO, target))
            self._db.execute("DELETE FROM outbox")
            self._db.execute(
                "INSERT INTO outbox (namespace, id, known, queued_at) "
                f"SELECT namespace, id, 0, {NOW} FROM rows ORDER BY seq"
            )


@contextmanager
def push_lock(path: Path | None) -> Iterator[bool]:
    """Try to lock pushing for the file and yield whether this process has the lock.

    Only one process can hold the lock. The operating system releases it if the process is killed.
    """
    import fcntl

    if path is None:
        yield True
        return
    with path.with_name(path.name + "-pusher").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        except BlockingIOError:
            locked = False
        yield locked
