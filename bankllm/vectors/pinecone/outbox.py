"""The local part of a replicated store: a `SQLiteStore` with an outbox of changes that must be pushed to Pinecone.

After a delete was pushed, its entry stays in the outbox for `HIDE_S`. Pinecone is eventually consistent and may still
return the deleted row; the remaining entries tell searches which rows to hide (`pending_deletes`).
"""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bankllm.errors import StoreError
from bankllm.util.sqlite import transaction
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import COLUMNS, SQLiteStore

PAGE_ENTRIES = 1000
"""Entries returned by one call of `next_entries`."""
NOW = "(julianday('now') - 2440587.5) * 86400.0"
"""SQL expression: seconds since 1970."""
REPLICATES_TO = "replicates_to"
"""Key in `meta` whose value names the index."""
HIDE_S = 600.0
"""Time in seconds that a deleted row is hidden after its push; Pinecone normally applies a delete within seconds."""
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


class PendingDeletes(NamedTuple):
    """Deletes in a namespace that Pinecone may not have applied yet."""

    whole_namespace: bool
    ids: frozenset[str]
    """Ids of deleted rows, which searches must hide."""
    stale: int
    """Number of rows that Pinecone may return in an outdated state; includes `ids`."""


class Backlog(NamedTuple):
    depth: int
    """Changes not yet pushed."""
    oldest_s: float
    """Age of the oldest of these changes in seconds; 0 if there are none."""
    parked: int
    """Changes that were rejected permanently; the next process that opens the file tries them once."""


class OutboxStore(SQLiteStore):
    def __init__(self, path: Path | None, dim: int, embedder_id: str, *, target: str, **options: Any) -> None:
        """Open as `SQLiteStore` does, with its `options`. If the file was not replicated to `target`, queue all rows.

        `target` names the index. Also raises `StoreError` if deletes for another target are in the outbox.
        """
        super().__init__(path, dim, embedder_id, **options)
        try:
            self._replicate_to(target)
        except BaseException:
            super().close()
            raise

    def next_entries(self) -> list[tuple[Entry, Row | None]]:
        """Return the next `PAGE_ENTRIES` entries in order, each with its current row; None if the row was deleted."""
        columns = ", ".join(f"r.{name}" for name in COLUMNS.split(", "))
        found = self._reader.read(
            f"SELECT o.seq, o.version, o.namespace, o.id, {columns} FROM outbox AS o LEFT JOIN rows AS r "
            f"ON r.namespace = o.namespace AND r.id = o.id WHERE {_WAITS} ORDER BY o.seq LIMIT ?",
            (PAGE_ENTRIES,),
        )
        rows = iter(self.to_rows([columns[4:] for columns in found if columns[4] is not None]))
        return [(Entry(*columns[:4]), None if columns[4] is None else next(rows)) for columns in found]

    def mark_upserted(self, entries: Sequence[Entry]) -> None:
        """Record that Pinecone has these rows: delete the entries that have not changed since they were read."""
        self._writer.write("DELETE FROM outbox WHERE seq = ? AND version = ?", [entry[:2] for entry in entries])

    def mark_deleted(self, entries: Sequence[Entry]) -> None:
        """Record that Pinecone accepted these deletes; the rows stay hidden for `HIDE_S`."""
        pushed = f"UPDATE outbox SET pushed_at = {NOW} WHERE seq = ? AND version = ?"
        self._writer.write(pushed, [entry[:2] for entry in entries])

    def park(self, entry: Entry, reason: str) -> None:
        """Record that Pinecone rejected this entry permanently; it is queued again when the file is opened again."""
        self._writer.write("UPDATE outbox SET refused = ? WHERE seq = ? AND version = ?", [(reason, *entry[:2])])

    def expire(self) -> None:
        """Stop hiding deletes that Pinecone accepted more than `HIDE_S` ago."""
        before = (time.time() - HIDE_S,)
        if self._reader.read("SELECT 1 FROM outbox WHERE pushed_at < ? LIMIT 1", before):
            self._writer.write("DELETE FROM outbox WHERE pushed_at < ?", [before])

    def pending_deletes(self, namespace: str) -> PendingDeletes:
        entries = f"SELECT id, {_ROW_GONE} AS gone FROM outbox AS o WHERE namespace = ? AND (known > 0 OR gone)"
        found = self._reader.read(entries, (namespace,))
        ids = frozenset(id_ for id_, gone in found if gone)
        return PendingDeletes("" in ids, ids, len(found))

    def own_ids(self, namespace: str, ids: Collection[str] | None = None) -> set[str]:
        """Return the ids of the namespace's rows in the file; if `ids` is given, only those of them."""
        among = "" if ids is None else " AND id IN (SELECT value FROM json_each(?))"
        values = (namespace,) if ids is None else (namespace, json.dumps(list(ids)))
        return {id_ for (id_,) in self._reader.read(f"SELECT id FROM rows WHERE namespace = ?{among}", values)}

    def backlog(self) -> Backlog:
        ((depth, oldest),) = self._reader.read(f"SELECT count(*), min(queued_at) FROM outbox WHERE {_WAITS}")
        ((parked,),) = self._reader.read("SELECT count(*) FROM outbox WHERE refused IS NOT NULL")
        return Backlog(depth, max(0.0, time.time() - oldest) if depth else 0.0, parked)

    def _replicate_to(self, target: str) -> None:
        with self._writer.exclusive() as db, transaction(db, "IMMEDIATE"):
            db.execute("UPDATE outbox SET refused = NULL WHERE refused IS NOT NULL")
            kept = db.execute("SELECT value FROM meta WHERE key = ?", (REPLICATES_TO,)).fetchone()
            if kept == (target,):
                return
            pending = db.execute(f"SELECT count(*) FROM outbox AS o WHERE pushed_at IS NULL AND {_ROW_GONE}")
            if count := pending.fetchone()[0]:
                raise StoreError(
                    f"{self.path} has {count} deletes that were not pushed to Pinecone's index {kept[0]}; expected "
                    f"none before the file replicates to {target}. Open the file with the previous Pinecone settings "
                    "until its outbox is empty, then try again."
                )
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (REPLICATES_TO, target))
            db.execute("DELETE FROM outbox")
            db.execute(
                "INSERT INTO outbox (namespace, id, known, queued_at) "
                f"SELECT namespace, id, 0, {NOW} FROM rows ORDER BY seq"
            )


@contextmanager
def push_lock(path: Path | None) -> Iterator[bool]:
    """Yield whether this process may push: only one can hold the file's lock, until it ends or is killed."""
    import fcntl

    if path is None:
        yield True
        return
    with path.with_name(path.name + "-pusher").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
