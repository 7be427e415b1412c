"""Where vectors are kept: the protocol that every store follows, and its embedded form on SQLite.

`SQLiteStore` acknowledges a write once it is committed and synced to disk, and searches exactly: one
matrix product over the namespace's own rows. They stay in memory; a search reads what was written since, by whomever.

    SQLiteStore(Path("memory.sqlite"), dim=384, embedder_id=embedder.model_id).upsert("CUST001", rows)
"""

import json
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from bankllm.errors import StoreError
from bankllm.vectors.blocks import BLOB, Block
from bankllm.vectors.group_commit import FairLock, GroupCommit
from bankllm.vectors.rows import Match, Row, check_namespace, check_rows, check_top_k, unit_vector
from bankllm.vectors.sqlite_file import BUSY_TIMEOUT_S, open_file, store_errors, transaction, wal_is_safe

_UPSERT = """INSERT INTO rows (namespace, id, created_at, vector, text, metadata) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (namespace, id) DO UPDATE SET
    created_at = excluded.created_at, vector = excluded.vector, text = excluded.text, metadata = excluded.metadata"""
_VERSION = """SELECT (SELECT min(seq) FROM rows WHERE namespace = :namespace),
    (SELECT generation FROM generations WHERE namespace = :namespace)"""


_ROWS = "SELECT id, text, vector, metadata, created_at FROM rows WHERE namespace = ?"


class VectorStore(Protocol):
    """What a store of vectors does. Namespaces never mix; vectors are unit length, scores are cosines.

    Wrong arguments raise `UsageError`; a store that cannot be read or written raises `StoreError`.
    """

    kind: str
    dim: int
    embedder_id: str

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write rows; one whose id is there already replaces it. Returns once they are kept."""

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """The `top_k` rows nearest to a (dim,) vector, best first; fewer where the namespace holds fewer."""

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
    ) -> None:
        """Open or create the file. Raises `StoreError` where it cannot serve as this embedder's store.

        A call waits up to `wait_s` for other threads and processes, then raises `StoreError`.
        """
        self.path = path
        self.dim = dim
        self.embedder_id = embedder_id
        self._cache_bytes = cache_bytes
        self._wait_s = wait_s
        self._blocks: OrderedDict[str, Block] = OrderedDict()
        self._cached_bytes = 0
        self._lock = FairLock()
        self._db = open_file(path, dim, embedder_id, wait_s)
        self._commits = GroupCommit(self._db, lambda: self._held(self._db, self._lock))
        # Readers pass a committing writer in WAL mode alone; elsewhere a second connection would wait for the file.
        self._reader, self._reader_lock = self._db, self._lock
        if path is not None and wal_is_safe(sqlite3.sqlite_version_info):
            self._reader, self._reader_lock = open_file(path, dim, embedder_id, wait_s), FairLock()

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write all rows or none. Returns once they are on disk; calls that wait at the same time share a commit."""
        check_namespace(namespace)
        values = [
            (
                namespace,
                row.id,
                row.created_at,
                row.vector.astype(BLOB).tobytes(),
                row.text,
                json.dumps(dict(row.metadata), ensure_ascii=False),
            )
            for row in check_rows(rows, self.dim)
        ]
        self._write(_UPSERT, values)

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Exact nearest neighbours by cosine among the namespace's rows; equal scores come oldest first."""
        check_namespace(namespace)
        check_top_k(top_k)
        query = unit_vector(vector, self.dim)
        with self._reading() as db:
            block = self._block(db, namespace)
            scores = block.matrix @ query
            return [self._match(db, block.seqs[i], float(scores[i])) for i in _best(scores, top_k)]

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Remove rows; their bytes in the file are overwritten (`PRAGMA secure_delete`)."""
        check_namespace(namespace)
        if ids is None:
            self._write("DELETE FROM rows WHERE namespace = ?", [(namespace,)])
        else:
            self._write("DELETE FROM rows WHERE namespace = ? AND id = ?", [(namespace, id_) for id_ in ids])
        with self._reader_lock:
            self._drop_block(namespace)  # a search would see that it is out of date; until then it holds what is gone

    def export(self, namespace: str) -> list[Row]:
        """All rows of a namespace, in the order they were first written."""
        check_namespace(namespace)
        with self._reading() as db:
            found = db.execute(f"{_ROWS} ORDER BY seq", (namespace,)).fetchall()
        return [_row(*columns) for columns in found]

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """The `limit` rows of a namespace that were first written last, the newest first."""
        check_namespace(namespace)
        with self._reading() as db:
            found = db.execute(f"{_ROWS} ORDER BY seq DESC LIMIT ?", (namespace, limit)).fetchall()
        return [_row(*columns) for columns in found]

    def count(self, namespace: str | None = None) -> int:
        """How many rows a namespace holds, or the whole file."""
        where, values = ("", ()) if namespace is None else (" WHERE namespace = ?", (namespace,))
        with self._reading() as db:
            return int(db.execute("SELECT count(*) FROM rows" + where, values).fetchone()[0])

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._db.close()
        with self._reader_lock:
            self._reader.close()

    def _block(self, db: sqlite3.Connection, namespace: str) -> Block:
        """The namespace's vectors as the transaction sees them: only rows that are not in memory yet are read."""
        # Removed and replaced rows move the generation on, until the namespace is empty; rows after that are newer
        # than any before, since no seq comes twice (AUTOINCREMENT). So the two numbers never come again together.
        version = db.execute(_VERSION, {"namespace": namespace}).fetchone()
        block = self._drop_block(namespace)
        if block is None or block.version != version:
            block = Block(self.dim, version)
        found = db.execute(
            "SELECT seq, vector FROM rows WHERE namespace = ? AND seq > ? ORDER BY seq", (namespace, block.last_seq)
        ).fetchall()
        if found:
            block.append(found)
        if block.nbytes:
            self._blocks[namespace] = block  # the last one used stands last
            self._cached_bytes += block.nbytes
        while self._cached_bytes > self._cache_bytes and len(self._blocks) > 1:
            self._drop_block(next(iter(self._blocks)))
        return block

    def _drop_block(self, namespace: str) -> Block | None:
        block = self._blocks.pop(namespace, None)
        if block is not None:
            self._cached_bytes -= block.nbytes
        return block

    @staticmethod
    def _match(db: sqlite3.Connection, seq: int, score: float) -> Match:
        id_, text, metadata, created_at = db.execute(
            "SELECT id, text, metadata, created_at FROM rows WHERE seq = ?", (seq,)
        ).fetchone()
        return Match(id_, score, text, json.loads(metadata), created_at)

    def _write(self, sql: str, values: Sequence[tuple[object, ...]]) -> None:
        with store_errors(self.path):
            self._commits.write(sql, values)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        reader = self._reader
        with self._held(reader, self._reader_lock), store_errors(self.path), transaction(reader, "DEFERRED"):
            yield reader

    @contextmanager
    def _held(self, db: sqlite3.Connection, lock: FairLock) -> Iterator[None]:
        """A connection for this thread alone. Raises `StoreError` where it waits too long for the other threads."""
        until = time.monotonic() + self._wait_s
        if not lock.acquire(self._wait_s):
            raise StoreError(f"The vector store {self.path or 'in memory'} is busy for longer than {self._wait_s:g} s.")
        try:
            # The thread before this one may have waited in vain for another process: this one does not begin anew.
            left_ms = max(0, round(1000 * (until - time.monotonic())))
            with store_errors(self.path):
                db.execute(f"PRAGMA busy_timeout = {left_ms}")
            yield
        finally:
            lock.release()


def _row(id_: str, text: str, vector: bytes, metadata: str, created_at: str) -> Row:
    return Row(id_, text, np.frombuffer(vector, dtype=BLOB), json.loads(metadata), created_at)


def _best(scores: np.ndarray, top_k: int) -> list[int]:
    """Positions of the `top_k` highest of (n,) scores, best first, equal scores in order."""
    if top_k < len(scores):
        threshold = np.partition(scores, -top_k)[-top_k]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores))
    order = np.argsort(-scores[candidates], kind="stable")[:top_k]
    return candidates[order].tolist()
