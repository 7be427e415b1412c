"""Give a store's file another embedder: `bankllm memory reindex` embeds all its texts anew, while others go on.

reindex(Path("memory.sqlite"), embedder.encode, embedder.dim, embedder.model_id)

The new vectors wait in a side table, batch by batch, so that a call that was killed is carried on by the next one.
One transaction then puts all of them in place; a store that has the former embedder open fails from there on.
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
"""Texts that are embedded and kept at a time: what a kill loses."""
LAST_ROWS = 32
"""Texts at most that are embedded while nobody else can write, just before the new vectors take over."""
SWAP_ROWS = 4096

_MISSING = """SELECT rows.seq, rows.text FROM rows LEFT JOIN reindexed USING (seq)
    WHERE rows.seq > ? AND reindexed.seq IS NULL ORDER BY rows.seq LIMIT ?"""
# Not where the text was replaced while the former one was embedded.
_KEEP = "INSERT OR REPLACE INTO reindexed SELECT seq, ? FROM rows WHERE seq = ? AND text = ?"
_SWAP = """UPDATE rows SET vector = (SELECT vector FROM reindexed WHERE reindexed.seq = rows.seq)
    WHERE seq BETWEEN ? AND ?"""

EmbedTexts = Callable[[list[str]], np.ndarray]
"""Texts → (n, dim) vectors."""


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
    """Embed the file's texts anew and return how many; 0 where it has this embedder and precision already.

    Rows written, replaced or removed meanwhile are taken along; it goes on as long as more is written than embedded.
    The file grows by the new vectors; their room is used again later. Raises `StoreError` as a store does; what was
    embedded so far is kept for the next call with the same embedder.
    """
    if precision is not None:
        precision_of(precision)
    with store_errors(path), closing(open_existing(path, wait_s)) as db:
        wanted = {"dim": str(dim), "embedder": embedder_id, "precision": precision or read_meta(db)["precision"]}
        if read_meta(db) == wanted:
            return 0
        return _Reindexing(db, path, embed, wanted).run(progress)


class _Reindexing:
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
            if self._begun() != self._name:
                self._db.execute("DELETE FROM reindexed")  # of another embedder
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('reindexing', ?)", (self._name,))
        counts = "SELECT (SELECT count(*) FROM rows), (SELECT count(*) FROM reindexed)"
        total, done = self._db.execute(counts).fetchone()
        with tqdm(total=total, initial=done, desc="embedding", unit="text", disable=not progress) as bar:
            while (swapped := self._swap()) is None:
                after = 0
                while batch := self._db.execute(_MISSING, (after, BATCH_ROWS)).fetchall():
                    values = self._values(batch)
                    with transaction(self._db, "IMMEDIATE"):
                        self._check_begun()
                        self._db.executemany(_KEEP, values)
                    after = batch[-1][0]
                    bar.update(len(batch))
        return swapped

    def _swap(self) -> int | None:
        """Put the new vectors in place, if at most `LAST_ROWS` are missing; how many rows there are."""
        if len(self._db.execute(_MISSING, (0, LAST_ROWS + 1)).fetchall()) > LAST_ROWS:
            return None
        with transaction(self._db, "IMMEDIATE"):
            self._check_begun()
            batch = self._db.execute(_MISSING, (0, LAST_ROWS + 1)).fetchall()
            if len(batch) > LAST_ROWS:  # written just now
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

    def _begun(self) -> str | None:
        found = self._db.execute("SELECT value FROM meta WHERE key = 'reindexing'").fetchone()
        return found[0] if found else None

    def _check_begun(self) -> None:
        if self._begun() != self._name:
            raise StoreError(
                f"{self._path} is being embedded anew by another process too, for another embedder, or that has just "
                "ended. Let one of them end, then repeat the call."
            )
