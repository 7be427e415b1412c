"""What a store reads of its SQLite file, within the caller's transaction.

block, complete = read_on(db, "CUST001", None, dim, "float32", to_the_end=True)
matches = read_matches(db, *block.snapshot().nearest(query, top_k))
"""

import json
import sqlite3
from collections.abc import Sequence

from bankllm.vectors.blocks import SEGMENT_ROWS, Block, Version
from bankllm.vectors.precision import Precision, decode
from bankllm.vectors.rows import Match, Row

CHUNK_ROWS = 2048
"""Vectors that are read in one go: some milliseconds' work."""

_VERSION = """SELECT (SELECT min(seq) FROM rows WHERE namespace = :namespace),
    (SELECT generation FROM generations WHERE namespace = :namespace)"""
_VECTORS = "SELECT seq, vector FROM rows WHERE namespace = ? AND seq > ? ORDER BY seq LIMIT ?"
_COMING = "SELECT count(*) FROM (SELECT 1 FROM rows WHERE namespace = ? AND seq > ? LIMIT ?)"
_MATCHES = """SELECT seq, id, text, metadata, created_at FROM rows
    WHERE seq IN (SELECT value FROM json_each(?))"""
_ROWS = "SELECT id, text, vector, metadata, created_at FROM rows WHERE namespace = ?"


def version_of(db: sqlite3.Connection, namespace: str) -> Version:
    """Two numbers that stay the same as long as rows are only added.

    Removed and replaced rows move the generation on, until the namespace is empty; rows after that are newer than any
    before, since no seq comes twice (AUTOINCREMENT). So the two never come again together.
    """
    return db.execute(_VERSION, {"namespace": namespace}).fetchone()


def read_on(
    db: sqlite3.Connection, namespace: str, block: Block | None, dim: int, precision: Precision, *, to_the_end: bool
) -> tuple[Block, bool]:
    """The namespace's block with the next `CHUNK_ROWS` rows, or all, and whether no more are left to be read.

    `block` is what was read before; it goes on to grow where rows were only added since, else a new one begins.
    """
    version = version_of(db, namespace)
    if block is None or block.version != version:
        block = Block(dim, version)
    while True:
        found = db.execute(_VECTORS, (namespace, block.last_seq, CHUNK_ROWS)).fetchall()
        complete = len(found) < CHUNK_ROWS
        if not complete and block.spare < len(found):
            block.reserve(db.execute(_COMING, (namespace, block.last_seq, SEGMENT_ROWS)).fetchone()[0])
        if found:
            seqs, vectors = zip(*found, strict=True)
            block.append(seqs, decode(vectors, dim, precision))
        if complete or not to_the_end:
            return block, complete


def read_matches(db: sqlite3.Connection, seqs: Sequence[int], scores: Sequence[float]) -> list[Match]:
    """The rows that a search found, in its order."""
    found = {seq: columns for seq, *columns in db.execute(_MATCHES, (json.dumps(seqs),))}
    matches = []
    for seq, score in zip(seqs, scores, strict=True):
        id_, text, metadata, created_at = found[seq]
        matches.append(Match(id_, score, text, json.loads(metadata), created_at))
    return matches


def read_rows(
    db: sqlite3.Connection, namespace: str, dim: int, precision: Precision, latest: int | None = None
) -> list[Row]:
    """All rows of a namespace in the order they were first written, or the `latest` ones, the newest first."""
    if latest is None:
        found = db.execute(f"{_ROWS} ORDER BY seq", (namespace,)).fetchall()
    else:
        found = db.execute(f"{_ROWS} ORDER BY seq DESC LIMIT ?", (namespace, latest)).fetchall()
    return _rows(found, dim, precision)


def fetch_rows(db: sqlite3.Connection, namespace: str, ids: Sequence[str], dim: int, precision: Precision) -> list[Row]:
    """The rows with these ids, as many as there are, in no order."""
    wanted = f"{_ROWS} AND id IN (SELECT value FROM json_each(?))"
    return _rows(db.execute(wanted, (namespace, json.dumps(ids))).fetchall(), dim, precision)


def _rows(found: Sequence[tuple[str, str, bytes, str, str]], dim: int, precision: Precision) -> list[Row]:
    vectors = decode([columns[2] for columns in found], dim, precision)
    return [
        Row(id_, text, vector, json.loads(metadata), created_at)
        for (id_, text, _, metadata, created_at), vector in zip(found, vectors, strict=True)
    ]
