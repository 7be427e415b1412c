"""`SQLiteStore`: rows with their vectors in one SQLite file, with exact search.

Searches run on copies of the vectors in memory, see `matrices`.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bankllm.errors import StoreError, UsageError
from bankllm.vectors.fusion import Mode
from bankllm.vectors.rows import Match, Query, Row, check_id, check_namespace, check_top_k, checked, unit_vectors
from bankllm.vectors.sqlite.clock import Clock
from bankllm.vectors.sqlite.connection import SharedConnection
from bankllm.vectors.sqlite.deletion import AskedBy, Receipt, delete_rows
from bankllm.vectors.sqlite.file import BUSY_TIMEOUT_S, FLOAT32, decode_vectors, wal_is_safe
from bankllm.vectors.sqlite.maintenance import compact_on_close
from bankllm.vectors.sqlite.matrices import Matrices
from bankllm.vectors.sqlite.retention import OWN_TTL, retain

logger = logging.getLogger(__name__)

_UPSERT = f"""INSERT INTO rows (namespace, id, created_at, vector, text, metadata, expires_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, CASE WHEN ?8 AND EXISTS ({OWN_TTL}) THEN ?9 + ({OWN_TTL}) ELSE ?7 END)
    ON CONFLICT (namespace, id) DO UPDATE SET
    created_at = excluded.created_at, vector = excluded.vector, text = excluded.text, metadata = excluded.metadata,
    expires_at = excluded.expires_at"""
_SWEPT = "SELECT namespace, count(*) FROM rows INDEXED BY rows_by_expiry WHERE expires_at <= ? GROUP BY 1"
_SWEEP = "DELETE FROM rows WHERE seq IN (SELECT seq FROM rows WHERE expires_at <= ? LIMIT ?)"
_ALIVE = "(expires_at IS NULL OR expires_at > ?)"
COLUMNS = "id, text, vector, metadata, created_at, expires_at"
"""Columns of `rows` that `to_rows` converts."""
SLICE_ROWS = 500
"""Rows per commit of a sweep (about 20 ms); other threads run in between."""
SWEEP_EVERY_S = 60.0
"""Seconds after which a write also deletes the expired rows."""


class SQLiteStore:
    """Rows in one SQLite file, for concurrent use by several threads and processes.

    A call accesses only its own namespace; scores are cosine similarities. Invalid arguments raise `UsageError`; a file
    that cannot be read or written raises `StoreError`.
    """

    remote = False
    """Whether calls may wait for another machine; their time is then not that of a local search."""

    def __init__(
        self,
        path: Path | None,
        dim: int,
        embedder_id: str,
        cache_bytes: int = 256 * 2**20,
        wait_s: float = BUSY_TIMEOUT_S,
        approximate_above: int | None = None,
    ) -> None:
        """Open or create the file, see `open_file`; None keeps the rows in memory and loses them on `close`.

        `embedder_id` is the `model_id` of the embedder whose vectors, of length `dim`, the file holds. A call waits up
        to `wait_s` seconds for others that use the file. `cache_bytes` limits the matrices in memory: the least
        recently used are evicted; a larger one is the only one. Namespaces with more than `approximate_above` rows get
        an approximate index, see `neighbor_graph`; None: all searches are exact.
        """
        if approximate_above is not None and find_spec("usearch") is None:
            raise UsageError("An approximate index needs the package usearch. Run: pip install 'bankllm[approximate]'")
        self.path, self.dim, self.embedder_id = path, dim, embedder_id
        self._writer = self._reader = SharedConnection(path, dim, embedder_id, wait_s)
        # Only in WAL mode can a reader run during a commit. In other modes a second connection would have to wait.
        self._wal = path is not None and wal_is_safe(sqlite3.sqlite_version_info)
        if self._wal:
            self._reader = SharedConnection(path, dim, embedder_id, wait_s)
        self._clock = Clock()
        self._matrices = Matrices(self._reader, self._clock, dim, cache_bytes, approximate_above)
        self._swept = -SWEEP_EVERY_S
        try:
            self.sweep()
        except BaseException:
            SQLiteStore.close(self)
            raise

    @property
    def cached_bytes(self) -> int:
        return self._matrices.nbytes

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write all rows or none; a row with an existing id replaces the stored row. Returns when they are on disk."""
        self.upsert_many([(namespace, rows)])

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write all rows of all namespaces or none; concurrent calls share one commit."""
        for namespace, _ in groups:
            check_namespace(namespace)
        rows = [(namespace, row) for namespace, rows in groups for row in rows]
        if not rows:
            return
        vectors, metadata = checked([row for _, row in rows], self.dim)
        values = [
            (
                *(namespace, row.id, row.created_at, vector.astype(FLOAT32).tobytes(), row.text, kept),
                *(row.expires_at, row.expires_by_default, time.time()),
            )
            for (namespace, row), vector, kept in zip(rows, vectors, metadata, strict=True)
        ]
        self._writer.write(_UPSERT, values)
        if time.monotonic() > self._swept + SWEEP_EVERY_S:
            try:
                self.sweep()
            except StoreError as error:  # the rows are written; the next sweep deletes what this one left
                logger.warning("%s: expired rows were not deleted: %s", self.path, error)

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Return up to `top_k` rows of the namespace that are nearest to a (dim,) vector, best first."""
        return self.search_many([Query(namespace, vector)], top_k)[0]

    def search_many(self, queries: Sequence[Query], top_k: int) -> list[list[Match]]:
        """Return up to `top_k` rows for each query, best first, ties oldest first.

        It is exact except in namespaces with over `approximate_above` rows.
        """
        check_top_k(top_k)
        return [self._search(self._checked(query), top_k) for query in queries]

    def _checked(self, query: Query) -> Query:
        """Return the query with unit vectors. Raises `UsageError` if it is invalid."""
        check_namespace(query.namespace)
        if query.mode not in get_args(Mode):
            raise UsageError(f"Expected the mode {', '.join(get_args(Mode))}, got {query.mode!r}.")
        vectors = unit_vectors(np.atleast_2d(np.asarray(query.vector)), self.dim)
        if query.mode != "dense" and len(query.words) != len(vectors):
            raise UsageError(
                f"Expected the words of each part of the query: got {len(vectors)} vectors, {len(query.words)} texts. "
                "Pass one text per vector."
            )
        return query._replace(vector=vectors)

    def _search(self, query: Query, top_k: int, others: Sequence[Match] = ()) -> list[Match]:
        """Search for a query of `_checked`. `others` are matches from elsewhere that are ranked with the rows."""
        return self._matrices.search(query, top_k, others)

    def delete(self, namespace: str, ids: Sequence[str] | None = None, asked_by: AskedBy = "library") -> Receipt:
        """Delete the rows with these ids, or all rows of the namespace, and return the receipt, in one transaction.

        SQLite has overwritten their bytes. If it moved a row between pages earlier, a copy may remain until `close` or
        `compact`; a write-ahead log may contain the rows while another process still reads the previous state.
        """
        check_namespace(namespace)
        if isinstance(ids, str):
            raise UsageError(f"Expected a list of ids, got one str. Pass a list, as in [{ids[:40]!r}].")
        for id_ in ids or ():
            check_id(id_)
        with self._writer.writing() as db:
            receipt = delete_rows(db, namespace, ids, asked_by, self._wal)
        self._forget_copies([namespace])
        return receipt

    def retain(self, namespace: str | None, ttl_s: float | None) -> None:
        """Let the rows of a namespace expire `ttl_s` seconds after they were written; None or infinity: never.

        It holds for stored rows and for later ones without a time to live of their own. Without a namespace it holds
        for all customers who have no time to live of their own. It is kept in this machine's file.
        """
        retain(self._writer, namespace, ttl_s)

    def sweep(self) -> int:
        """Delete the expired rows of all namespaces, which no call returns any more, and return their number.

        Opening the store sweeps, and so does a write every `SWEEP_EVERY_S`. If the system's clock was set forward while
        the store is open, rows that only the new time lets expire are hidden, but not deleted.
        """
        self._swept = time.monotonic()
        now = self._clock.earliest()
        found = self._reader.read(_SWEPT, (now,))
        removed: int = sum(count for _, count in found)
        for _ in range(0, removed, SLICE_ROWS):
            self._writer.write(_SWEEP, [(now, SLICE_ROWS)])
        if found:
            self._forget_copies([namespace for namespace, _ in found])
        self._matrices.drop_outdated()
        return removed

    def _forget_copies(self, namespaces: Sequence[str]) -> None:
        """Drop deleted vectors from memory now, not at the next search, and deleted rows from a write-ahead log."""
        self._matrices.forget(namespaces)
        if self._wal:
            with self._writer.exclusive() as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def export(self, namespace: str) -> list[Row]:
        """Return all rows of a namespace, oldest first."""
        check_namespace(namespace)
        oldest = f"SELECT {COLUMNS} FROM rows WHERE namespace = ? AND {_ALIVE} ORDER BY seq"
        return self.to_rows(self._reader.read(oldest, (namespace, self._clock.latest())))

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """Return the `limit` newest rows, the newest first. Replacing a row does not make it newer."""
        check_namespace(namespace)
        latest = f"SELECT {COLUMNS} FROM rows WHERE namespace = ? AND {_ALIVE} ORDER BY seq DESC LIMIT ?"
        return self.to_rows(self._reader.read(latest, (namespace, self._clock.latest(), limit)))

    def count(self, namespace: str | None = None) -> int:
        """Return the number of rows of a namespace, or of all namespaces if None; reads only an index."""
        counting = "SELECT count(*) FROM rows WHERE " + ("" if namespace is None else "namespace = :namespace AND ")
        counts = f"SELECT ({counting} true) - ({counting} expires_at <= :now)"
        ((count,),) = self._reader.read(counts, {"namespace": namespace, "now": self._clock.latest()})
        return int(count)

    def to_rows(self, found: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Convert database rows with the columns `COLUMNS`."""
        vectors = decode_vectors([columns[2] for columns in found], self.dim)
        return [
            Row(id_, text, vector, json.loads(metadata), created_at, expires_at)
            for (id_, text, _, metadata, created_at, expires_at), vector in zip(found, vectors, strict=True)
        ]

    def close(self) -> None:
        """Compact the file if rows were deleted, then close it; a second call has no effect."""
        self._writer.close(lambda db: compact_on_close(db, self.path))
        self._reader.close()
