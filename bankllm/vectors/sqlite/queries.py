"""What a store reads of its SQLite file, within the caller's transaction.

block, complete = read_on(db, "CUST001", None, dim, "float32", to_the_end=True)
matches = read_matches(db, *block.snapshot().nearest(query, top_k))
"""

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from bankllm.vectors.rows import Match, Row
from bankllm.vectors.sqlite.matrix_cache import SEGMENT_ROWS, Block, Version
from bankllm.vectors.storage_precision import Precision, decode

CHUNK_ROWS = 2048
"""Vectors that are read in one go: some milliseconds' work."""

_VERSION = """SELECT (SELECT min(seq) FROM rows WHERE namespace = :namespace),
    (SELECT generation FROM generations WHERE namespace = :namespace)"""
_VECTORS = "SELECT seq, vector FROM rows WHERE namespace = ? AND seq > ? ORDER BY seq LIMIT ?"
_COMING = "SELECT count(*) FROM (SELECT 1 FROM rows WHERE namespace = ? AND seq > ? LIMIT ?)"
_MATCHES = """SELECT seq, id, text, metadata, created_at FROM rows
    WHERE seq IN (SELECT value FROM json_each(?))"""
_COLUMNS = "id, text, vector, metadata, created_at"
_ROWS = f"SELECT {_COLUMNS} FROM rows WHERE namespace = ?"
_PAGE = f"SELECT seq, {_COLUMNS} FROM rows WHERE namespace = ? AND seq > ? ORDER BY seq LIMIT ?"


def version_of(db: sqlite3.Connection, namespace: str) -> Version:
    """Two numbers that stay the same as long as rows are only added.

    Removed and replaced rows move the generation on, until the namespace is empty; rows after that are newer than any
    before, since no seq comes twice (AUTOINCREMENT). So the two never come again together.
    """
    return db.execute(_VERSION, {"namespace": namespace}).fetchone()


def read_on(
    db: sqlite3.Connection,
    namespace: str,
    block: Block | None,
    dim: int,
    precision: Precision,
    *,
    to_the_end: bool,
    floor: int = 0,
) -> tuple[Block, bool]:
    """The namespace's block with the next `CHUNK_ROWS` rows, or all, and whether no more are left to be read.

    `block` is what was read before; it goes on to grow where rows were only added since, else a new one begins.
    Rows up to seq `floor` are not read.
    """
    version = version_of(db, namespace)
    if block is None or (block.version, block.floor) != (version, floor):
        block = Block(dim, version, floor)
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


def read_page(db: sqlite3.Connection, namespace: str, after: int, limit: int) -> list[tuple[Any, ...]]:
    """Seq and columns, for `decode_rows`, of the next `limit` rows after seq `after`."""
    return db.execute(_PAGE, (namespace, after, limit)).fetchall()


def read_latest(db: sqlite3.Connection, namespace: str, dim: int, precision: Precision, limit: int) -> list[Row]:
    """The `limit` rows of a namespace that were first written last, the newest first."""
    found = db.execute(f"{_ROWS} ORDER BY seq DESC LIMIT ?", (namespace, limit)).fetchall()
    return decode_rows(found, dim, precision)


def fetch_rows(db: sqlite3.Connection, namespace: str, ids: Sequence[str], dim: int, precision: Precision) -> list[Row]:
    """The rows with these ids, as many as there are, in no order."""
    wanted = f"{_ROWS} AND id IN (SELECT value FROM json_each(?))"
    return decode_rows(db.execute(wanted, (namespace, json.dumps(ids))).fetchall(), dim, precision)


def decode_rows(found: Sequence[tuple[Any, ...]], dim: int, precision: Precision) -> list[Row]:
    """Rows from their columns as `_COLUMNS` has them."""
    vectors = decode([columns[2] for columns in found], dim, precision)
    return [
        Row(id_, text, vector, json.loads(metadata), created_at)
        for (id_, text, _, metadata, created_at), vector in zip(found, vectors, strict=True)
    ]
