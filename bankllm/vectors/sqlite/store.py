"""Where vectors are kept: the protocol that every store follows, and its embedded form on SQLite.

`SQLiteStore` acknowledges a write once it is committed and synced to disk, and searches exactly: one
matrix product over the namespace's own rows. They stay in memory; a search reads what was written since, by whomever,
and multiplies a large namespace while others go on.

    SQLiteStore(Path("memory.sqlite"), dim=384, embedder_id=embedder.model_id).upsert("CUST001", rows)
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

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
    fetch_rows,
    read_latest,
    read_matches,
    read_on,
    read_page,
    version_of,
)
from bankllm.vectors.storage_precision import Precision, encode, precision_of

_UPSERT = """INSERT INTO rows (namespace, id, created_at, vector, text, metadata) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (namespace, id) DO UPDATE SET
    created_at = excluded.created_at, vector = excluded.vector, text = excluded.text, metadata = excluded.metadata"""
_REMOVE = "INSERT INTO removals VALUES (?, ?)"
"""Into a view: one row goes, or all of the namespace for NULL, and the outbox hears of it (`outbox_schema`)."""
_REMOVE_OLDEST = "DELETE FROM rows WHERE seq IN (SELECT seq FROM rows WHERE namespace = ? ORDER BY seq LIMIT ?)"
_EXTENT = "SELECT max(seq), count(*) FROM rows WHERE namespace = ?"
SLICE_ROWS = 500
"""Rows that are removed within one commit, or exported in one turn at the file: some 20 ms' work."""
SMALL_ROWS = 2048
"""Up to so many rows are multiplied within the turn: it takes less time than a second turn."""
MAX_RETRIES = 3
"""How often a search begins anew because rows were removed or replaced under it; after that nobody may."""


class VectorStore(Protocol):
    """What a store of vectors does. Namespaces never mix; vectors are unit length, scores are cosines.

    Wrong arguments raise `UsageError`; a store that cannot be read or written raises `StoreError`.
    """

    kind: str
    dim: int
    embedder_id: str

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write rows; one whose id is there already replaces it. Returns once they are kept."""

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """`upsert` for rows of several namespaces."""

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """The `top_k` rows nearest to a (dim,) vector, best first; fewer where the namespace holds fewer."""

    def search_many(self, queries: Sequence[tuple[str, np.ndarray]], top_k: int) -> list[list[Match]]:
        """`search` for several namespaces and their vectors, in order."""

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Remove the rows with these ids, or all of the namespace; unknown ids are no error."""

    def export(self, namespace: str) -> list[Row]:
        """All rows of a namespace, oldest first."""

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """The `limit` rows of a namespace that were written last, the newest first."""

    def count(self, namespace: str | None = None) -> int:
        """How many rows a namespace holds, or the whole store."""

    def close(self) -> None:
        """Let go of files and connections; the store cannot be used afterwards."""


class SQLiteStore:
    """A `VectorStore` in one SQLite file, for several threads and processes at once.

    `path=None` keeps everything in memory and loses it on `close`: for demonstrations and tests.
    """

    kind = "sqlite"

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
        """Open or create the file. Raises `StoreError` where it cannot serve as this embedder's store.

        A call waits up to `wait_s` for other threads and processes, then raises `StoreError`. `precision` is how a
        new file keeps its vectors, float32 where none is given; a file that is there keeps what it was made with.
        """
        if precision is not None:
            precision_of(precision)
        self.path = path
        self.dim = dim
        self.embedder_id = embedder_id
        self._wait_s = wait_s
        self._blocks = BlockCache(cache_bytes)
        self._leaving: dict[str, int] = {}
        """Namespaces that are being removed, and their newest seq then: searches would read what is left ever anew."""
        self._closed = False
        self._lock = FairLock()
        self._db = open_file(path, dim, embedder_id, wait_s, precision)
        self.precision = precision_of(read_meta(self._db)["precision"])
        self._commits = GroupCommit(self._db, lambda: self._held(self._db, self._lock), self._check)
        self.embeddings = FileCache(dim, lambda: self._reading(WAIT_S), self._write, self._flush)
        """Vectors of texts that any process has embedded; an `Embedder` takes it as `shared`."""
        self._commits.piggyback = self.embeddings
        # Readers pass a committing writer in WAL mode alone; elsewhere a second connection would wait for the file.
        self._reader, self._reader_lock = self._db, self._lock
        self._wal = path is not None and wal_is_safe(sqlite3.sqlite_version_info)
        if self._wal:
            self._reader, self._reader_lock = open_file(path, dim, embedder_id, wait_s), FairLock()

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write all rows or none. Returns once they are on disk; calls that wait at the same time share a commit."""
        self.upsert_many([(namespace, rows)])

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write all rows of all namespaces or none, as `upsert` does."""
        for namespace, _ in groups:
            check_namespace(namespace)
        if not groups:
            return
        namespaces = [namespace for namespace, rows in groups for _ in rows]
        fit = checked([row for _, rows in groups for row in rows], self.dim)
        values = [
            (namespace, row.id, row.created_at, vector, row.text, metadata)
            for namespace, row, vector, metadata in zip(
                namespaces, fit.rows, encode(fit.unit, self.precision), fit.metadata, strict=True
            )
        ]
        self._write(_UPSERT, values)

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Exact nearest neighbours by cosine among the namespace's rows; equal scores come oldest first.

        What is found is what one moment's rows give, whoever writes meanwhile.
        """
        check_namespace(namespace)
        check_top_k(top_k)
        query = unit_vector(vector, self.dim)
        block: Block | None = None
        restarts = 0
        while True:
            alone = restarts >= MAX_RETRIES
            with self._reading() as db:
                known, (block, complete) = block, self._read_on(db, namespace, block, to_the_end=alone)
                if complete and (alone or len(block) <= SMALL_ROWS):
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
        """`search` for each, all within one turn at the file as long as the namespaces are small."""
        check_top_k(top_k)
        for namespace, _ in queries:
            check_namespace(namespace)
        if not queries:
            return []
        units = [unit_vector(vector, self.dim) for _, vector in queries]
        found: list[list[Match] | None] = []
        with self._reading() as db:
            for (namespace, _), unit in zip(queries, units, strict=True):
                block, complete = self._read_on(db, namespace, None, to_the_end=False)
                small = complete and len(block) <= SMALL_ROWS
                found.append(read_matches(db, *block.snapshot().nearest(unit, top_k)) if small else None)
        return [
            self.search(namespace, vector, top_k) if matches is None else matches
            for (namespace, vector), matches in zip(queries, found, strict=True)
        ]

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Remove rows. No search finds them any more, and SQLite has overwritten their bytes (`PRAGMA secure_delete`).

        Of many rows some go at a time, so that others get their turn in between; a call that ends early has removed
        a part. A copy that SQLite left of a row it had moved between pages stays until the file is written anew:
        by `close`, or by `compact` where it is larger than `COMPACT_ON_CLOSE_BYTES`. A WAL beside it may hold the rows
        while another process reads the state before.
        """
        check_namespace(namespace)
        if ids is None:
            self._delete_all(namespace)
        else:
            for start in range(0, len(ids), SLICE_ROWS):
                self._write(_REMOVE, [(namespace, id_) for id_ in ids[start : start + SLICE_ROWS]])
        with self._reader_lock:
            self._blocks.take(namespace)  # a search would see that it is out of date; until then it holds what is gone
        if self._wal:
            with self._held(self._db, self._lock), store_errors(self.path):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _delete_all(self, namespace: str) -> None:
        with self._reading() as db:
            newest, rows = db.execute(_EXTENT, (namespace,)).fetchone()
        if rows > SLICE_ROWS:
            self._leaving[namespace] = newest
        try:
            for _ in range(rows // SLICE_ROWS):
                self._write(_REMOVE_OLDEST, [(namespace, SLICE_ROWS)])
            self._write(_REMOVE, [(namespace, None)])
        finally:
            self._leaving.pop(namespace, None)

    def export(self, namespace: str) -> list[Row]:
        """All rows of a namespace, in the order they were first written.

        Read a page at a time, so that others get their turn in between; what they write meanwhile may be among them.
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
        """The rows with these ids, as many as there are, in no order."""
        with self._reading() as db:
            return fetch_rows(db, namespace, list(ids), self.dim, self.precision)

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """The `limit` rows of a namespace that were first written last, the newest first."""
        check_namespace(namespace)
        with self._reading() as db:
            return read_latest(db, namespace, self.dim, self.precision, limit)

    def count(self, namespace: str | None = None) -> int:
        """How many rows a namespace holds, or the whole file."""
        where, values = ("", ()) if namespace is None else (" WHERE namespace = ?", (namespace,))
        with self._reading() as db:
            return int(db.execute("SELECT count(*) FROM rows" + where, values).fetchone()[0])

    def backup(self, target: Path) -> None:
        """Copy everything into a new file while others go on. Raises `StoreError` as `copy_file` does."""
        if self.path is not None:
            copy_file(self.path, target, self._wait_s)
        else:
            with self._held(self._db, self._lock):
                copy_open(self._db, target)

    def compact(self) -> bool:
        """Write the file anew without any trace of removed rows, if there are any; whether it was. Others wait."""
        with self._held(self._db, self._lock):
            return compact(self._db, self.path)

    def close(self) -> None:
        """Close the file, compacted if rows were removed; a second call does nothing."""
        self.embeddings.flush()
        with self._lock:
            if self.path is not None and not self._closed:
                compact_on_close(self._db, self.path)
            self._closed = True
            self._db.close()
        with self._reader_lock:
            self._reader.close()

    def _read_on(
        self, db: sqlite3.Connection, namespace: str, block: Block | None, *, to_the_end: bool
    ) -> tuple[Block, bool]:
        """The namespace's block with more of its rows, and whether it now has all that the transaction sees."""
        block = self._blocks.take(namespace) or block  # the cache may have dropped it since this search began
        floor = self._leaving.get(namespace, 0)
        block, complete = read_on(db, namespace, block, self.dim, self.precision, to_the_end=to_the_end, floor=floor)
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
        """A connection for this thread alone. Raises `StoreError` where it waits too long for the other threads."""
        wait_s = self._wait_s if wait_s is None else min(wait_s, self._wait_s)
        until = time.monotonic() + wait_s
        if not lock.acquire(wait_s):
            raise StoreError(f"The vector store {self.path or 'in memory'} is busy for longer than {wait_s:g} s.")
        try:
            # The thread before this one may have waited in vain for another process: this one does not begin anew.
            left_ms = max(0, round(1000 * (until - time.monotonic())))
            with store_errors(self.path):
                db.execute(f"PRAGMA busy_timeout = {left_ms}")
            yield
        finally:
            lock.release()
