"""`SQLiteStore`: a `VectorStore` in one SQLite file.

It acknowledges a write after it is committed and synced to disk. A search is exact: a matrix product of the
query with all vectors of the namespace. The vectors are cached in memory, and each search first reads the rows that any
process has written since. Large namespaces are multiplied without holding the lock.

    SQLiteStore(Path("memory.sqlite"), dim=384, embedder_id=embedder.model_id).upsert("CUST001", rows)
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bankllm.errors import StoreError
from bankllm.vectors.embedding_cache import WAIT_S, FileCache
from bankllm.vectors.rows import Match, Row, check_namespace, check_top_k, checked, unit_vector
from bankllm.vectors.sqlite.connection import (
    BUSY_TIMEOUT_S,
    check_vectors,
    open_file,
    read_meta,
    store_errors,
    transaction,
    wal_is_safe,
)
from bankllm.vectors.sqlite.group_commit import FairLock, GroupCommit
from bankllm.vectors.sqlite.maintenance import compact, compact_on_close, copy_file, copy_open
from bankllm.vectors.sqlite.matrix_cache import Block, BlockCache
from bankllm.vectors.sqlite.queries import (
    decode_rows,
    extend_block,
    fetch_rows,
    read_latest,
    read_matches,
    read_page,
    version_of,
)
from bankllm.vectors.storage_precision import Precision, encode, precision_of

_UPSERT = """INSERT INTO rows (namespace, id, created_at, vector, text, metadata) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (namespace, id) DO UPDATE SET
    created_at = excluded.created_at, vector = excluded.vector, text = excluded.text, metadata = excluded.metadata"""
_REMOVE = "INSERT INTO removals VALUES (?, ?)"
"""Inserts into a view: deletes one row, or all rows of a namespace if the id is NULL, and queues an outbox entry
(`schema.OUTBOX_SCHEMA`)."""
_REMOVE_OLDEST = "DELETE FROM rows WHERE seq IN (SELECT seq FROM rows WHERE namespace = ? ORDER BY seq LIMIT ?)"
_EXTENT = "SELECT max(seq), count(*) FROM rows WHERE namespace = ?"
SLICE_ROWS = 500
"""Rows per commit of a delete and per read of an export: about 20 ms each. Other threads run between two slices."""
SMALL_ROWS = 2048
"""A namespace of up to this size is multiplied while the lock is held, which is faster than locking twice."""
MAX_RETRIES = 3
"""How often a search restarts because rows were deleted or replaced during it. The last attempt holds the lock, so no
row can change."""


class SQLiteStore:
    """A `VectorStore` in one SQLite file, for concurrent use by several threads and processes.

    `path=None` keeps all rows in memory and loses them on `close`; use it for demonstrations and tests.
    """

    kind = "sqlite"
    remote = False

    def __init__(
        self,
        path: Path | None,
        dim: int,
        embedder_id: str,
        cache_bytes: int = 256 * 2**20,
        wait_s: float = BUSY_TIMEOUT_S,
        *,
        precision: Precision | None = None,
    ) -> None:
        """Open or create the file. Raises `StoreError` if it cannot be used with this embedder (see `open_file`).

        `cache_bytes` limits the vectors that are cached in memory. A call waits up to `wait_s` seconds for other
        threads and processes, then raises `StoreError`. `precision` is the storage format of a new file (default
        float32); an existing file keeps its format.
        """
        if precision is not None:
            precision_of(precision)
        self.path = path
        self.dim = dim
        self.embedder_id = embedder_id
        self._wait_s = wait_s
        self._blocks = BlockCache(cache_bytes)
        self._deleting: dict[str, int] = {}
        """Namespaces being deleted, with their last seq. Without this, every search would reload the remaining rows."""
        self._closed = False
        self._lock = FairLock()
        self._db = open_file(path, dim, embedder_id, wait_s, precision)
        self.precision = precision_of(read_meta(self._db)["precision"])
        self._commits = GroupCommit(self._db, lambda: self._held(self._db, self._lock), self._check)
        self.embeddings = FileCache(dim, lambda: self._reading(WAIT_S), self._write, self._flush)
        """Embedding cache that all processes share through the file; pass it to `Embedder(shared=...)`."""
        self._commits.piggyback = self.embeddings
        # Only in WAL mode can a reader run during a commit. In other modes a second connection would have to wait.
        self._reader, self._reader_lock = self._db, self._lock
        self._wal = path is not None and wal_is_safe(sqlite3.sqlite_version_info)
        if self._wal:
            self._reader, self._reader_lock = open_file(path, dim, embedder_id, wait_s), FairLock()

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write all rows or none. Returns after they are on disk; concurrent calls share one commit."""
        self.upsert_many([(namespace, rows)])

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write all rows of all namespaces or none, in one commit."""
        for namespace, _ in groups:
            check_namespace(namespace)
        if not groups:
            return
        namespaces = [namespace for namespace, rows in groups for _ in rows]
        valid = checked([row for _, rows in groups for row in rows], self.dim)
        values = [
            (namespace, row.id, row.created_at, vector, row.text, metadata)
            for namespace, row, vector, metadata in zip(
                namespaces, valid.rows, encode(valid.unit, self.precision), valid.metadata, strict=True
            )
        ]
        self._write(_UPSERT, values)

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Return the exact nearest neighbours by cosine in the namespace, best first; ties are oldest first.

        The result is consistent: it corresponds to the rows at one point in time, even during concurrent writes.
        """
        check_namespace(namespace)
        check_top_k(top_k)
        query = unit_vector(vector, self.dim)
        block: Block | None = None
        restarts = 0
        while True:
            last_attempt = restarts >= MAX_RETRIES
            with self._reading() as db:
                known, (block, complete) = block, self._extend_block(db, namespace, block, read_all=last_attempt)
                if complete and (last_attempt or len(block) <= SMALL_ROWS):
                    return read_matches(db, *block.snapshot().nearest(query, top_k))
                snapshot = block.snapshot()
            if complete:
                nearest = snapshot.nearest(query, top_k)
                with self._reading() as db:
                    if version_of(db, namespace) == snapshot.version:
                        return read_matches(db, *nearest)
                block = None
            if block is None or (known is not None and known.version != block.version):
                restarts += 1

    def search_many(self, queries: Sequence[tuple[str, np.ndarray]], top_k: int) -> list[list[Match]]:
        """Run `search` for each pair; all small namespaces are searched in one transaction."""
        check_top_k(top_k)
        for namespace, _ in queries:
            check_namespace(namespace)
        if not queries:
            return []
        units = [unit_vector(vector, self.dim) for _, vector in queries]
        found: list[list[Match] | None] = []
        with self._reading() as db:
            for (namespace, _), unit in zip(queries, units, strict=True):
                block, complete = self._extend_block(db, namespace, None, read_all=False)
                small = complete and len(block) <= SMALL_ROWS
                found.append(read_matches(db, *block.snapshot().nearest(unit, top_k)) if small else None)
        return [
            self.search(namespace, vector, top_k) if matches is None else matches
            for (namespace, vector), matches in zip(queries, found, strict=True)
        ]

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Delete rows: no search finds them, and SQLite has overwritten their bytes (`PRAGMA secure_delete`).

        Many rows are deleted in slices of `SLICE_ROWS`, so that other threads can run in between; a call that fails may
        have deleted some of them. When SQLite moved a row between pages earlier, a copy of it may remain in the file
        until the file is rewritten: by `close`, or by `compact` if the file is larger than `COMPACT_ON_CLOSE_BYTES`. A
        write-ahead log may contain the rows while another process still reads the previous state.
        """
        check_namespace(namespace)
        if ids is None:
            self._delete_all(namespace)
        else:
            for start in range(0, len(ids), SLICE_ROWS):
                self._write(_REMOVE, [(namespace, id_) for id_ in ids[start : start + SLICE_ROWS]])
        with self._reader_lock:
            self._blocks.take(namespace)  # drop the deleted vectors from memory now, not at the next search
        if self._wal:
            with self._held(self._db, self._lock), store_errors(self.path):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _delete_all(self, namespace: str) -> None:
        with self._reading() as db:
            newest, rows = db.execute(_EXTENT, (namespace,)).fetchone()
        if rows > SLICE_ROWS:
            self._deleting[namespace] = newest
        try:
            for _ in range(rows // SLICE_ROWS):
                self._write(_REMOVE_OLDEST, [(namespace, SLICE_ROWS)])
            self._write(_REMOVE, [(namespace, None)])
        finally:
            self._deleting.pop(namespace, None)

    def export(self, namespace: str) -> list[Row]:
        """Return all rows of a namespace, in the order in which they were first written.

        The rows are read in pages, so that other threads can run in between. Rows written during the export may be
        included.
        """
        check_namespace(namespace)
        found: list[tuple[Any, ...]] = []
        while True:
            with self._reading() as db:
                page = read_page(db, namespace, found[-1][0] if found else 0, SLICE_ROWS)
            found += page
            if len(page) < SLICE_ROWS:
                return decode_rows([columns[1:] for columns in found], self.dim, self.precision)

    def fetch(self, namespace: str, ids: Sequence[str]) -> list[Row]:
        """Return the existing rows with these ids, in arbitrary order."""
        with self._reading() as db:
            return fetch_rows(db, namespace, list(ids), self.dim, self.precision)

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """Return the `limit` newest rows of a namespace, the newest first; replacing a row does not make it newer."""
        check_namespace(namespace)
        with self._reading() as db:
            return read_latest(db, namespace, self.dim, self.precision, limit)

    def count(self, namespace: str | None = None) -> int:
        """Return the number of rows of a namespace, or of the whole file if None."""
        where, values = ("", ()) if namespace is None else (" WHERE namespace = ?", (namespace,))
        with self._reading() as db:
            return int(db.execute("SELECT count(*) FROM rows" + where, values).fetchone()[0])

    def backup(self, target: Path) -> None:
        """Copy the store to a new file; other threads and processes can use it. Raises `StoreError` as `copy_file`."""
        if self.path is not None:
            copy_file(self.path, target, self._wait_s)
        else:
            with self._held(self._db, self._lock):
                copy_open(self._db, target)

    def compact(self) -> bool:
        """Rewrite the file without bytes of deleted rows; return False if there was nothing to do.

        Other threads and processes wait until it is done.
        """
        with self._held(self._db, self._lock):
            return compact(self._db, self.path)

    def close(self) -> None:
        """Compact the file if rows were deleted, then close it; a second call has no effect."""
        self.embeddings.flush()
        with self._lock:
            if self.path is not None and not self._closed:
                compact_on_close(self._db, self.path)
            self._closed = True
            self._db.close()
        with self._reader_lock:
            self._reader.close()

    def _extend_block(
        self, db: sqlite3.Connection, namespace: str, block: Block | None, *, read_all: bool
    ) -> tuple[Block, bool]:
        """Read more rows into the namespace's block; return it and whether it has all rows of this transaction."""
        block = self._blocks.take(namespace) or block  # the cache may have evicted it since this search began
        floor = self._deleting.get(namespace, 0)
        block, complete = extend_block(db, namespace, block, self.dim, self.precision, read_all=read_all, floor=floor)
        self._blocks.put(namespace, block)
        return block, complete

    def _check(self, db: sqlite3.Connection) -> None:
        check_vectors(db, self.path, self.dim, self.embedder_id, self.precision)

    def _write(self, sql: str, values: Sequence[tuple[object, ...]]) -> None:
        with store_errors(self.path):
            self._commits.write(sql, values)

    def _flush(self) -> None:
        with store_errors(self.path):
            self._commits.flush(lambda: self._held(self._db, self._lock, WAIT_S))

    @contextmanager
    def _reading(self, wait_s: float | None = None) -> Iterator[sqlite3.Connection]:
        reader = self._reader
        with self._held(reader, self._reader_lock, wait_s), store_errors(self.path), transaction(reader, "DEFERRED"):
            self._check(reader)
            yield reader

    @contextmanager
    def _held(self, db: sqlite3.Connection, lock: FairLock, wait_s: float | None = None) -> Iterator[None]:
        """Give this thread exclusive access to a connection. Raises `StoreError` after waiting `wait_s` seconds."""
        wait_s = self._wait_s if wait_s is None else min(wait_s, self._wait_s)
        until = time.monotonic() + wait_s
        if not lock.acquire(wait_s):
            raise StoreError(
                f"The vector store {self.path or 'in memory'} was busy for more than {wait_s:g} s. Try again later."
            )
        try:
            # The time already waited for the lock counts: the whole call waits at most `wait_s` seconds.
            left_ms = max(0, round(1000 * (until - time.monotonic())))
            with store_errors(self.path):
                db.execute(f"PRAGMA busy_timeout = {left_ms}")
            yield
        finally:
            lock.release()
