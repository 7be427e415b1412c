"""The matrices of a store's namespaces in memory: each search first reads the rows that any process has written since.

They are multiplied without holding the lock of the connection.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from cachetools import LRUCache

from bankllm.vectors.filters import values_of
from bankllm.vectors.rows import Match, Query
from bankllm.vectors.sqlite.clock import Clock
from bankllm.vectors.sqlite.connection import SharedConnection
from bankllm.vectors.sqlite.file import decode_vectors
from bankllm.vectors.sqlite.matrix import Hit, Matrix, Version
from bankllm.vectors.sqlite.neighbor_graph import NeighborGraph

LOAD_ROWS, CHECKED = 2048, 500
"""Vectors per read of a large namespace (a few milliseconds), and namespaces per check for changes. Other threads run
in between."""
_VERSION = """SELECT (SELECT min(seq) FROM rows WHERE namespace = :namespace),
    (SELECT generation FROM generations WHERE namespace = :namespace)"""
_EXPIRED = "SELECT seq FROM rows INDEXED BY rows_by_expiry WHERE expires_at <= ? AND namespace = ?"
_ROWS = "SELECT seq, vector, metadata, created_at FROM rows WHERE namespace = ? AND seq > ? ORDER BY seq LIMIT ?"
_TEXTS = "SELECT text FROM rows WHERE namespace = ? AND seq > ? ORDER BY seq LIMIT ?"
_MATCHES = "SELECT seq, id, text, metadata, created_at FROM rows WHERE seq IN (SELECT value FROM json_each(?))"


class Matrices:
    """Thread-safe: the connection's lock protects the cache."""

    def __init__(
        self, reader: SharedConnection, clock: Clock, dim: int, cache_bytes: int, approximate_above: int | None
    ) -> None:
        """The arguments are those of `SQLiteStore`."""
        self._reader, self._clock, self._dim, self._approximate_above = reader, clock, dim, approximate_above
        limit = max(1, cache_bytes)
        self._matrices: LRUCache[str, Matrix] = LRUCache(limit, getsizeof=lambda matrix: min(matrix.nbytes, limit))

    @property
    def nbytes(self) -> int:
        return int(self._matrices.currsize)

    def search(self, query: Query, top_k: int, others: Sequence[Match] = ()) -> list[Match]:
        """Return the best rows for a query of unit vectors; `others` are matches from elsewhere to rank with them."""
        cosines = [match.score for match in others]
        while True:
            matrix, visible = self._loaded(query)
            hits = matrix.search(query, top_k, visible, cosines)
            with self._reader.reading() as db:
                if _version(db, query.namespace) == matrix.version:  # else rows were deleted or replaced meanwhile
                    return _matches(db, matrix, hits, others)

    def _loaded(self, query: Query) -> tuple[Matrix, np.ndarray | None]:
        """Return the namespace's matrix with all rows, and which of them the query may find (None: all)."""
        matrix, complete = None, False
        while not complete:
            with self._reader.reading() as db:
                matrix, complete = self._load_some(db, query, matrix)
                visible = self._visible(db, query, matrix) if complete else None
        assert matrix is not None
        return matrix, visible

    def _visible(self, db: sqlite3.Connection, query: Query, matrix: Matrix) -> np.ndarray | None:
        """Return which rows of the matrix have not expired and pass the filter, (rows,) bool; None if all."""
        expired = [seq for (seq,) in db.execute(_EXPIRED, (self._clock.latest(), query.namespace))]
        visible = ~np.isin(matrix.seqs[: matrix.rows], expired) if expired else None
        if query.where is None:
            return visible
        passing = query.where.passing(matrix.metadata[: matrix.rows])
        return passing if visible is None else passing & visible

    def _load_some(self, db: sqlite3.Connection, query: Query, loaded: Matrix | None = None) -> tuple[Matrix, bool]:
        """Bring the namespace's matrix up to date, by at most `LOAD_ROWS` rows; return it and whether it is complete.

        Words are loaded only if the query needs them. `loaded` is the matrix of the previous call, which the cache may
        have evicted.
        """
        namespace = query.namespace
        version = _version(db, namespace)
        matrix = self._matrices.pop(namespace, loaded)
        if matrix is None or matrix.version != version:
            coming = db.execute("SELECT count(*) FROM rows WHERE namespace = ?", (namespace,)).fetchone()[0]
            matrix = Matrix.empty(version, self._dim, coming)
        found = db.execute(_ROWS, (namespace, matrix.seq_before(matrix.rows), LOAD_ROWS)).fetchall()
        if found:
            seqs, blobs, metadata, times = zip(*found, strict=True)
            parsed = json.loads(f"[{','.join(metadata)}]")  # in one call, so that the rows share their keys
            values = list(map(values_of, parsed, times))
            matrix = matrix.extended(seqs, decode_vectors(blobs, self._dim), values)
        complete = len(found) < LOAD_ROWS
        if complete and query.mode != "dense" and matrix.words.rows < matrix.rows:
            after = matrix.seq_before(matrix.words.rows)
            texts = [text for (text,) in db.execute(_TEXTS, (namespace, after, LOAD_ROWS))]
            matrix = replace(matrix, words=matrix.words.extended(texts))
            complete = matrix.words.rows == matrix.rows
        if self._approximate_above is not None and matrix.rows > self._approximate_above and matrix.graph is None:
            matrix = replace(matrix, graph=NeighborGraph(self._dim))
        self._matrices[namespace] = matrix
        return matrix, complete

    def forget(self, namespaces: Sequence[str]) -> None:
        with self._reader.exclusive():
            for namespace in namespaces:
                self._matrices.pop(namespace, None)

    def drop_outdated(self) -> None:
        """Drop the matrices of namespaces in which another process has deleted or replaced rows."""
        with self._reader.exclusive():
            cached = list(self._matrices)
        for start in range(0, len(cached), CHECKED):
            with self._reader.reading() as db:
                for namespace in cached[start : start + CHECKED]:
                    matrix = self._matrices.get(namespace)
                    if matrix is not None and matrix.version != _version(db, namespace):
                        del self._matrices[namespace]


def _version(db: sqlite3.Connection, namespace: str) -> Version:
    """Return the namespace's oldest seq and its generation: both stay the same while rows are only added.

    The generation is reset when the namespace becomes empty, but later rows then have a new oldest seq (AUTOINCREMENT).
    """
    version: Version = db.execute(_VERSION, {"namespace": namespace}).fetchone()
    return version


def _matches(db: sqlite3.Connection, matrix: Matrix, hits: Sequence[Hit], others: Sequence[Match] = ()) -> list[Match]:
    seqs = [int(matrix.seqs[hit.at]) for hit in hits if hit.at < matrix.rows]
    found = {seq: columns for seq, *columns in db.execute(_MATCHES, (json.dumps(seqs),))}
    matches = []
    for hit in hits:
        if hit.at < matrix.rows:
            id_, text, metadata, created_at = found[int(matrix.seqs[hit.at])]
            matches.append(Match(id_, hit.score, text, json.loads(metadata), created_at, *hit[2:]))
        else:
            matches.append(replace(others[hit.at - matrix.rows], fused=hit.fused))
    return matches
