"""Re-embed all texts of a store's file with another embedder or precision: `bankllm memory reindex`.

reindex(Path("memory.sqlite"), embedder.encode, embedder.dim, embedder.model_id)

Other processes can use the file. New vectors are saved in the table `reindexed`, one transaction per batch, so a killed
call is resumed by the next one. A final transaction then replaces all vectors. From then on, calls of stores that were
opened with the old embedder raise `StoreError`.
"""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from bankllm.errors import StoreError
from bankllm.vectors.rows import unit_vectors
from bankllm.vectors.sqlite.connection import BUSY_TIMEOUT_S, open_existing, read_meta, store_errors, transaction
from bankllm.vectors.storage_precision import Precision, encode, precision_of

BATCH_ROWS = 256
"""Texts per batch and transaction; a killed call loses at most one batch."""
LAST_ROWS = 32
"""Maximum number of texts embedded in the final transaction, during which other processes cannot write."""
SWAP_ROWS = 4096
"""Rows per UPDATE statement in the final transaction."""

_MISSING = """SELECT rows.seq, rows.text FROM rows LEFT JOIN reindexed USING (seq)
    WHERE rows.seq > ? AND reindexed.seq IS NULL ORDER BY rows.seq LIMIT ?"""
# Skips a row whose text was replaced while its old text was embedded.
_KEEP = "INSERT OR REPLACE INTO reindexed SELECT seq, ? FROM rows WHERE seq = ? AND text = ?"
_SWAP = """UPDATE rows SET vector = (SELECT vector FROM reindexed WHERE reindexed.seq = rows.seq)
    WHERE seq BETWEEN ? AND ?"""

EmbedTexts = Callable[[list[str]], np.ndarray]
"""n texts → (n, dim) vectors."""


def reindex(
    path: Path,
    embed: EmbedTexts,
    dim: int,
    embedder_id: str,
    *,
    precision: Precision | None = None,
    progress: bool = False,
    wait_s: float = BUSY_TIMEOUT_S,
) -> int:
    """Re-embed all texts of the file and return their number; 0 if it already has this embedder and precision.

    Rows that are written, replaced or deleted during the call are included. The call does not end while other processes
    write faster than it embeds. The file grows by the new vectors; SQLite reuses that space later. Raises `StoreError`
    like a store; the vectors computed so far are kept for the next call with the same embedder.
    """
    if precision is not None:
        precision_of(precision)
    with store_errors(path), closing(open_existing(path, wait_s)) as db:
        wanted = {"dim": str(dim), "embedder": embedder_id, "precision": precision or read_meta(db)["precision"]}
        if read_meta(db) == wanted:
            return 0
        return _Reindexing(db, path, embed, wanted).run(progress)


class _Reindexing:
    """One run of `reindex` with the embedder and precision `wanted`."""

    def __init__(self, db: sqlite3.Connection, path: Path, embed: EmbedTexts, wanted: dict[str, str]) -> None:
        self._db = db
        self._path = path
        self._embed = embed
        self._wanted = wanted
        self._dim = int(wanted["dim"])
        self._precision = precision_of(wanted["precision"])
        self._name = json.dumps(wanted, sort_keys=True)

    def run(self, progress: bool) -> int:
        from tqdm.auto import tqdm

        with transaction(self._db, "IMMEDIATE"):
            if self._started_name() != self._name:
                self._db.execute("DELETE FROM reindexed")  # vectors of another embedder
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('reindexing', ?)", (self._name,))
        counts = "SELECT (SELECT count(*) FROM rows), (SELECT count(*) FROM reindexed)"
        total, done = self._db.execute(counts).fetchone()
        with tqdm(total=total, initial=done, desc="embedding", unit="text", disable=not progress) as bar:
            while (swapped := self._swap()) is None:
                after = 0
                while batch := self._db.execute(_MISSING, (after, BATCH_ROWS)).fetchall():
                    values = self._values(batch)
                    with transaction(self._db, "IMMEDIATE"):
                        self._check_not_replaced()
                        self._db.executemany(_KEEP, values)
                    after = batch[-1][0]
                    bar.update(len(batch))
        return swapped

    def _swap(self) -> int | None:
        """Replace all vectors and return the number of rows; None if more than `LAST_ROWS` are not yet embedded."""
        if len(self._db.execute(_MISSING, (0, LAST_ROWS + 1)).fetchall()) > LAST_ROWS:
            return None
        with transaction(self._db, "IMMEDIATE"):
            self._check_not_replaced()
            batch = self._db.execute(_MISSING, (0, LAST_ROWS + 1)).fetchall()
            if len(batch) > LAST_ROWS:  # another process has written rows in the meantime
                return None
            self._db.executemany(_KEEP, self._values(batch))
            first, last, count = self._db.execute("SELECT min(seq), max(seq), count(*) FROM rows").fetchone()
            for start in range(first or 0, (last or -1) + 1, SWAP_ROWS):
                self._db.execute(_SWAP, (start, start + SWAP_ROWS - 1))
            self._db.execute("DELETE FROM reindexed")
            self._db.execute("DELETE FROM meta WHERE key = 'reindexing'")
            self._db.executemany("UPDATE meta SET value = ? WHERE key = ?", [(v, k) for k, v in self._wanted.items()])
        return int(count)

    def _values(self, batch: list[tuple[int, str]]) -> list[tuple[bytes, int, str]]:
        if not batch:
            return []
        unit = unit_vectors(list(self._embed([text for _, text in batch])), self._dim)
        return [(vector, *row) for vector, row in zip(encode(unit, self._precision), batch, strict=True)]

    def _started_name(self) -> str | None:
        """Return which reindexing the file records as unfinished: its embedder and precision as JSON."""
        found = self._db.execute("SELECT value FROM meta WHERE key = 'reindexing'").fetchone()
        return found[0] if found else None

    def _check_not_replaced(self) -> None:
        if self._started_name() != self._name:
            raise StoreError(
                f"Another process re-embeds {self._path} for another embedder, or has just finished doing so. Wait "
                "until it has ended, then repeat the call."
            )
