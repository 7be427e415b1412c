"""Where vectors are kept: the protocol that every store follows, and its embedded form on SQLite.

`SQLiteStore` acknowledges a write once it is committed and synced to disk, and searches exactly: one
matrix product over the namespace's own rows, which stay in memory until this or another process writes.

    SQLiteStore(Path("memory.sqlite"), dim=384, embedder_id=embedder.model_id).upsert("CUST001", rows)
"""

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Literal, Protocol

import numpy as np

from bankllm.vectors.rows import Match, Row, check_namespace, check_rows, check_top_k, unit_vector
from bankllm.vectors.sqlite_file import open_file, store_errors, transaction

BLOB = np.dtype("<f4")
"""How a vector's numbers stand in the file, whatever the machine."""


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


@dataclass(frozen=True, eq=False)
class _Block:
    """One namespace in memory: `matrix` is (n, dim) float32, `seqs` names its rows in the file."""

    seqs: list[int]
    matrix: np.ndarray


class SQLiteStore:
    """A `VectorStore` in one SQLite file, for several threads and processes at once.

    `path=None` keeps everything in memory and loses it on `close`: for demonstrations and tests.
    """

    kind = "sqlite"

    def __init__(self, path: Path | None, dim: int, embedder_id: str, cache_bytes: int = 256 * 2**20) -> None:
        """Open or create the file. Raises `StoreError` where it cannot serve as this embedder's store."""
        self.path = path
        self.dim = dim
        self.embedder_id = embedder_id
        self._cache_bytes = cache_bytes
        self._blocks: OrderedDict[str, _Block] = OrderedDict()
        self._cached_bytes = 0
        self._data_version = -1
        self._lock = RLock()
        self._db = open_file(path, dim, embedder_id)

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write all rows in one transaction, or none. Returns once it is on disk."""
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
        with self._writing(namespace) as db:
            db.executemany(
                "INSERT INTO rows (namespace, id, created_at, vector, text, metadata) VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (namespace, id) DO UPDATE SET created_at = excluded.created_at, "
                "vector = excluded.vector, text = excluded.text, metadata = excluded.metadata",
                values,
            )

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Exact nearest neighbours by cosine among the namespace's rows; equal scores come oldest first."""
        check_namespace(namespace)
        check_top_k(top_k)
        query = unit_vector(vector, self.dim)
        with self._transaction("DEFERRED") as db:
            block = self._block(namespace)
            scores = block.matrix @ query
            return [self._match(db, block.seqs[i], float(scores[i])) for i in _best(scores, top_k)]

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Remove rows; their bytes in the file are overwritten (`PRAGMA secure_delete`)."""
        check_namespace(namespace)
        with self._writing(namespace) as db:
            if ids is None:
                db.execute("DELETE FROM rows WHERE namespace = ?", (namespace,))
            else:
                db.executemany("DELETE FROM rows WHERE namespace = ? AND id = ?", ((namespace, id_) for id_ in ids))

    def export(self, namespace: str) -> list[Row]:
        """All rows of a namespace, in the order they were first written."""
        check_namespace(namespace)
        with self._transaction("DEFERRED") as db:
            found = db.execute(f"{_ROWS} ORDER BY seq", (namespace,)).fetchall()
        return [_row(*columns) for columns in found]

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """The `limit` rows of a namespace that were first written last, the newest first."""
        check_namespace(namespace)
        with self._transaction("DEFERRED") as db:
            found = db.execute(f"{_ROWS} ORDER BY seq DESC LIMIT ?", (namespace, limit)).fetchall()
        return [_row(*columns) for columns in found]

    def count(self, namespace: str | None = None) -> int:
        """How many rows a namespace holds, or the whole file."""
        where, values = ("", ()) if namespace is None else (" WHERE namespace = ?", (namespace,))
        with self._transaction("DEFERRED") as db:
            return int(db.execute("SELECT count(*) FROM rows" + where, values).fetchone()[0])

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._db.close()

    def _block(self, namespace: str) -> _Block:
        """The namespace's vectors. Call it inside a transaction, so that it matches the rows read with it."""
        # data_version moves when another connection has committed; our own writes drop their block themselves.
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version != self._data_version:
            while self._blocks:
                self._drop_block(next(iter(self._blocks)))
            self._data_version = version
        if namespace in self._blocks:
            self._blocks.move_to_end(namespace)
            return self._blocks[namespace]
        found = self._db.execute(
            "SELECT seq, vector FROM rows WHERE namespace = ? ORDER BY seq", (namespace,)
        ).fetchall()
        flat = np.frombuffer(b"".join(vector for _, vector in found), dtype=BLOB)
        block = _Block([seq for seq, _ in found], flat.reshape(-1, self.dim))
        self._blocks[namespace] = block
        self._cached_bytes += block.matrix.nbytes
        while self._cached_bytes > self._cache_bytes and len(self._blocks) > 1:
            self._drop_block(next(iter(self._blocks)))
        return block

    def _drop_block(self, namespace: str) -> None:
        block = self._blocks.pop(namespace, None)
        if block is not None:
            self._cached_bytes -= block.matrix.nbytes

    @staticmethod
    def _match(db: sqlite3.Connection, seq: int, score: float) -> Match:
        id_, text, metadata, created_at = db.execute(
            "SELECT id, text, metadata, created_at FROM rows WHERE seq = ?", (seq,)
        ).fetchone()
        return Match(id_, score, text, json.loads(metadata), created_at)

    @contextmanager
    def _writing(self, namespace: str) -> Iterator[sqlite3.Connection]:
        with self._transaction("IMMEDIATE") as db:
            self._drop_block(namespace)
            yield db

    @contextmanager
    def _transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        with self._lock, store_errors(self.path), transaction(self._db, kind):
            yield self._db


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
