"""The local half of a replicated store: a `SQLiteStore` whose file also keeps what Pinecone has still to be told.

outbox = OutboxStore(Path("memory.sqlite"), 384, embedder_id, target="bankllm (customer)")
outbox.upsert("CUST001", rows)        # the rows and their entries, in one commit
for entry, row in outbox.waiting(): …
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

PAGE = 1000
"""Entries that are pushed at a time."""
FETCHED = 100
"""Rows that are read at once, so that searches get their turn in between."""
HIDE_S = 600.0
"""How long what Pinecone has removed is hidden at most; it is indexed within seconds, ordinarily."""
SETTLE_S = 10.0
"""How long it is hidden at least: not every server of Pinecone's is as far as the one that answered."""
_ROW_GONE = "NOT EXISTS (SELECT 1 FROM rows WHERE namespace = o.namespace AND id = o.id)"
_WAITS = "pushed_at IS NULL AND refused IS NULL"


class Entry(NamedTuple):
    """What has to be told: a row's present state, or with an empty id that the whole namespace is gone."""

    seq: int
    version: int
    """Grows with each further change, so that an entry that changed while it was pushed is pushed again."""
    namespace: str
    id: str


class Backlog(NamedTuple):
    """How far Pinecone lags behind the file."""

    depth: int
    """Entries that wait."""
    oldest_s: float
    """Since when the oldest of them waits; 0 where none does."""
    parked: int
    """Entries that Pinecone refused for good; they are tried once more by the next process that pushes."""


class PendingDeletes(NamedTuple):
    """What a search of Pinecone may still find of a namespace, and must not."""

    whole: bool
    """The namespace was removed as a whole, and Pinecone is not known to be that far yet."""
    ids: frozenset[str]
    stale: int
    """Rows that may stand in Pinecone with what they were, those of `ids` among them."""
    lsn: int | None
    """From which log position on Pinecone is known to have removed some of them; None: of none."""


class OutboxStore(SQLiteStore):
    """A `SQLiteStore` that replicates."""

    def __init__(
        self,
        path: Path | None,
        dim: int,
        embedder_id: str,
        *,
        target: str,
        wait_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        """Open as `SQLiteStore` does. All rows of a file that did not replicate to `target` yet are queued.

        Raises `StoreError` too where another index has yet to be told of removals.
        """
        super().__init__(path, dim, embedder_id, wait_s=wait_s)
        try:
            self._replicate_to(target)
        except BaseException:
            self.close()
            raise

    def waiting(self) -> list[tuple[Entry, Row | None]]:
        """The next `PAGE` entries in order, each with its row as it is now; None where that is gone."""
        with self._reading() as db:
            # The entry is read before its row: a row that changes in between has its entry's version moved on.
            found = db.execute(
                f"SELECT seq, version, namespace, id FROM outbox WHERE {_WAITS} ORDER BY seq LIMIT ?", (PAGE,)
            ).fetchall()
        entries = [Entry(*columns) for columns in found]
        ids: dict[str, list[str]] = {}
        for entry in entries:
            ids.setdefault(entry.namespace, []).append(entry.id)
        rows = {
            (namespace, row.id): row
            for namespace, wanted in ids.items()
            for start in range(0, len(wanted), FETCHED)
            for row in self.fetch(namespace, wanted[start : start + FETCHED])
        }
        return [(entry, rows.get((entry.namespace, entry.id))) for entry in entries]

    def upserted(self, entries: Sequence[Entry]) -> None:
        """Pinecone has these rows: their entries go, where they have not changed meanwhile."""
        self._write("DELETE FROM outbox WHERE seq = ? AND version = ?", [entry[:2] for entry in entries])

    def removed(self, entries: Sequence[Entry]) -> None:
        """Pinecone has removed these: they are hidden from now on until it is known to be that far."""
        self._write(
            f"UPDATE outbox SET pushed_at = {NOW}, known = 0 WHERE seq = ? AND version = ?",
            [entry[:2] for entry in entries],
        )

    def parked(self, entry: Entry, reason: str) -> None:
        """Pinecone refuses this one for good."""
        self._write("UPDATE outbox SET refused = ? WHERE seq = ? AND version = ?", [(reason, *entry[:2])])

    def unpark(self) -> None:
        """Let what was refused be tried once more."""
        if self.backlog().parked:
            self._write("UPDATE outbox SET refused = NULL WHERE refused IS NOT NULL", [()])

    def logged(self, lsn: int, namespace: str | None) -> None:
        """Pinecone's log stood at `lsn` after the removals pushed so far, of one namespace or (None) of all.

        Not of a whole namespace: that ends its log, and the next one counts anew.
        """
        where, values = ("", (lsn,)) if namespace is None else (" AND namespace = ?", (lsn, namespace))
        condition = "pushed_at IS NOT NULL AND lsn IS NULL AND id <> ''" + where
        with self._reading() as db:
            if not db.execute(f"SELECT 1 FROM outbox WHERE {condition} LIMIT 1", values[1:]).fetchone():
                return
        self._write(f"UPDATE outbox SET lsn = ? WHERE {condition}", [values])

    def indexed(self, namespace: str, lsn: int) -> None:
        """A search there has held all up to `lsn`: what was removed before need not be hidden any longer."""
        self._write(
            "DELETE FROM outbox WHERE namespace = ? AND pushed_at < ? AND lsn <= ?",
            [(namespace, time.time() - SETTLE_S, lsn)],
        )

    def expire(self) -> None:
        """Hide nothing any longer that Pinecone removed more than `HIDE_S` ago."""
        before = (time.time() - HIDE_S,)
        with self._reading() as db:
            if not db.execute("SELECT 1 FROM outbox WHERE pushed_at < ? LIMIT 1", before).fetchone():
                return
        self._write("DELETE FROM outbox WHERE pushed_at < ?", [before])

    def gone(self, namespace: str) -> PendingDeletes:
        """What a search of Pinecone may still find of a namespace, and must not."""
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
        """Which of these ids, or which at all, the file holds rows of."""
        with self._reading() as db:
            if ids is None:
                return {id_ for (id_,) in db.execute("SELECT id FROM rows WHERE namespace = ?", (namespace,))}
            one = "SELECT 1 FROM rows WHERE namespace = ? AND id = ?"
            return {id_ for id_ in ids if db.execute(one, (namespace, id_)).fetchone()}

    def counts(self, namespace: str | None) -> tuple[int, int]:
        """How many rows there are here, and how many rows of ours Pinecone has."""
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
        """How far Pinecone lags behind, whichever process is to push."""
        with self._reading() as db:
            depth, oldest = db.execute(f"SELECT count(*), min(queued_at) FROM outbox WHERE {_WAITS}").fetchone()
            parked = db.execute("SELECT count(*) FROM outbox WHERE refused IS NOT NULL").fetchone()[0]
        return Backlog(depth, max(0.0, time.time() - oldest) if depth else 0.0, parked)

    def _replicate_to(self, target: str) -> None:
        with self._held(self._db, self._lock), store_errors(self.path), transaction(self._db, "IMMEDIATE"):
            kept = self._db.execute("SELECT value FROM meta WHERE key = ?", (REPLICATES_TO,)).fetchone()
            if kept == (target,):
                return
            untold = self._db.execute(f"SELECT count(*) FROM outbox AS o WHERE pushed_at IS NULL AND {_ROW_GONE}")
            if count := untold.fetchone()[0]:
                raise StoreError(
                    f"{self.path} has {count} removals that Pinecone's index {kept[0]} has not been told of; expected "
                    f"none before it replicates to {target}. Open it with the former settings until its outbox is "
                    "empty, then try again."
                )
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (REPLICATES_TO, target))
            self._db.execute("DELETE FROM outbox")
            self._db.execute(
                "INSERT INTO outbox (namespace, id, known, queued_at) "
                f"SELECT namespace, id, 0, {NOW} FROM rows ORDER BY seq"
            )


@contextmanager
def sole_pusher(path: Path | None) -> Iterator[bool]:
    """Whether this process may push for the file: one may at a time. Where it was killed, the next one may at once."""
    import fcntl

    if path is None:
        yield True
        return
    with path.with_name(path.name + "-pusher").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sole = True
        except BlockingIOError:
            sole = False
        yield sole
