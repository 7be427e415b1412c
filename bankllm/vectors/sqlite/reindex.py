"""Re-embed all texts of a store's file with another embedder: `bankllm memory reindex`.

Other processes can use the file. New vectors are saved in the table `reindexed`, so a killed call is resumed by the
next one. The last transaction replaces all vectors; from then on, stores with the old embedder raise `StoreError`.
"""

import json
from contextlib import closing
from pathlib import Path

from tqdm.auto import tqdm

from bankllm.errors import StoreError
from bankllm.vectors.embedder import Encode
from bankllm.vectors.passages import embed_texts
from bankllm.vectors.rows import unit_vectors
from bankllm.vectors.sqlite.file import FLOAT32, open_existing, read_meta, store_errors, transaction

BATCH_ROWS = 256
"""Texts per batch and transaction; a killed call loses at most one batch."""

_MISSING = "SELECT seq, text FROM rows WHERE seq NOT IN (SELECT seq FROM reindexed) ORDER BY seq LIMIT ?"
# Skips a row whose text was replaced while its old text was embedded.
_KEEP = "INSERT OR REPLACE INTO reindexed SELECT seq, ? FROM rows WHERE seq = ? AND text = ?"
_SWAP = "UPDATE rows SET vector = (SELECT vector FROM reindexed WHERE reindexed.seq = rows.seq)"
_STARTED = "SELECT value FROM meta WHERE key = 'reindexing'"


def reindex(path: Path, embed: Encode, dim: int, embedder_id: str) -> int:
    """Re-embed all texts of the file and return their number; 0 if it already has this embedder.

    Rows that are written, replaced or deleted during the call are included; it does not end while other processes write
    faster than it embeds. If it fails, the vectors computed so far are kept for the next call with the same embedder.
    """
    wanted = {"dim": str(dim), "embedder": embedder_id}
    name = json.dumps(wanted, sort_keys=True)
    with store_errors(path), closing(open_existing(path)) as db:
        if read_meta(db) == wanted:
            return 0
        with transaction(db, "IMMEDIATE"):
            if db.execute(_STARTED).fetchone() != (name,):
                db.execute("DELETE FROM reindexed")  # vectors of another embedder
                db.execute("INSERT OR REPLACE INTO meta VALUES ('reindexing', ?)", (name,))
        total, done = db.execute("SELECT (SELECT count(*) FROM rows), (SELECT count(*) FROM reindexed)").fetchone()
        with tqdm(total=total, initial=done, desc="embedding", unit="text", disable=None) as bar:
            while True:
                batch = db.execute(_MISSING, (BATCH_ROWS,)).fetchall()
                texts = [text for _, text in batch]
                unit = unit_vectors(embed_texts(embed, texts) if texts else [], dim)
                vectors = [vector.astype(FLOAT32).tobytes() for vector in unit]
                with transaction(db, "IMMEDIATE"):
                    if db.execute(_STARTED).fetchone() != (name,):
                        raise StoreError(
                            f"Another process re-embeds {path} for another embedder, or has just finished doing so. "
                            "Wait until it has ended, then repeat the call."
                        )
                    db.executemany(_KEEP, [(vector, *row) for vector, row in zip(vectors, batch, strict=True)])
                    if db.execute(_MISSING, (1,)).fetchone() is None:
                        count = db.execute(_SWAP).rowcount
                        db.execute("DELETE FROM reindexed")
                        db.execute("DELETE FROM meta WHERE key = 'reindexing'")
                        db.executemany("UPDATE meta SET value = ? WHERE key = ?", [(v, k) for k, v in wanted.items()])
                        return count
                bar.update(len(batch))
