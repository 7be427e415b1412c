"""Read queries of `SQLiteStore`. Each function runs in the caller's transaction.

block, complete = extend_block(db, "CUST001", None, dim, "float32", read_all=True)
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
"""Vectors per read; one read takes a few milliseconds."""

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
    """Return the namespace's oldest seq and its generation: both stay the same while rows are only added.

    Deleting or replacing a row increments the generation. The generation is reset when the namespace becomes empty,
    but later rows then have a new oldest seq, because SQLite never reuses a seq (AUTOINCREMENT). Therefore the same
    pair never describes two different states.
    """
    return db.execute(_VERSION, {"namespace": namespace}).fetchone()


def extend_block(
    db: sqlite3.Connection,
    namespace: str,
    block: Block | None,
    dim: int,
    precision: Precision,
    *,
    read_all: bool,
    floor: int = 0,
) -> tuple[Block, bool]:
    """Read the next `CHUNK_ROWS` rows of a namespace into its block, or all rows if `read_all`.

    Returns the block and whether it is complete. `block` holds the rows read so far. It is extended if rows were only
    added since; otherwise a new block is started. Rows up to seq `floor` are skipped.
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
        if complete or not read_all:
            return block, complete


def read_matches(db: sqlite3.Connection, seqs: Sequence[int], scores: Sequence[float]) -> list[Match]:
    """Read the rows with these seqs and return them as matches, in the given order."""
    found = {seq: columns for seq, *columns in db.execute(_MATCHES, (json.dumps(seqs),))}
    matches = []
    for seq, score in zip(seqs, scores, strict=True):
        id_, text, metadata, created_at = found[seq]
        matches.append(Match(id_, score, text, json.loads(metadata), created_at))
    return matches


def read_page(db: sqlite3.Connection, namespace: str, after: int, limit: int) -> list[tuple[Any, ...]]:
    """Return seq and the columns for `decode_rows` of the next `limit` rows after seq `after`."""
    return db.execute(_PAGE, (namespace, after, limit)).fetchall()


def read_latest(db: sqlite3.Connection, namespace: str, dim: int, precision: Precision, limit: int) -> list[Row]:
    """Return the `limit` newest rows of a namespace, the newest first; replacing a row does not make it newer."""
    found = db.execute(f"{_ROWS} ORDER BY seq DESC LIMIT ?", (namespace, limit)).fetchall()
    return decode_rows(found, dim, precision)


def fetch_rows(db: sqlite3.Connection, namespace: str, ids: Sequence[str], dim: int, precision: Precision) -> list[Row]:
    """Return the existing rows with these ids, in arbitrary order."""
    wanted = f"{_ROWS} AND id IN (SELECT value FROM json_each(?))"
    return decode_rows(db.execute(wanted, (namespace, json.dumps(ids))).fetchall(), dim, precision)


def decode_rows(found: Sequence[tuple[Any, ...]], dim: int, precision: Precision) -> list[Row]:
    """Convert database rows with the columns `_COLUMNS` to `Row` objects."""
    vectors = decode([columns[2] for columns in found], dim, precision)
    return [
        Row(id_, text, vector, json.loads(metadata), created_at)
        for (id_, text, _, metadata, created_at), vector in zip(found, vectors, strict=True)
    ]
