"""Mask account numbers in the rows of an existing store's file: `bankllm memory mask`.

Other processes can use the file. Each batch is one transaction, in which a row's text, metadata and vector change
together. If the call is killed, run it again; rows that are already masked do not change. At the end the file is
rewritten, so that it contains no bytes of the original texts.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tqdm.auto import tqdm

from bankllm.errors import StoreError
from bankllm.util.redaction import mask, mask_metadata
from bankllm.vectors.embedder import Encode
from bankllm.vectors.passages import embed_texts
from bankllm.vectors.rows import unit_vectors
from bankllm.vectors.sqlite.file import FLOAT32, check_vectors, open_existing, store_errors, transaction
from bankllm.vectors.sqlite.maintenance import compact

BATCH_ROWS = 256
"""Rows per transaction."""

_PAGE = "SELECT seq, text, metadata FROM rows WHERE seq > ? ORDER BY seq LIMIT ?"
# `text` is always set: its trigger records that the file contains an old text until it is compacted.
_UPDATE = """UPDATE rows SET text = ?, metadata = ?, vector = coalesce(?, vector)
    WHERE seq = ? AND text = ? AND metadata = ?"""


def mask_rows(path: Path, embed: Encode, dim: int, embedder_id: str) -> tuple[int, int]:
    """Mask account numbers in the texts and metadata of all rows, and return the numbers of checked and masked rows.

    Rows whose text changes are embedded again. In a replicated file, changed rows enter the outbox. Raises `StoreError`
    for another embedder's file, and after masking all rows if another process still reads the old state, or if the name
    of a customer or collection looks like an account number.
    """
    with store_errors(path), closing(open_existing(path)) as db:
        check_vectors(db, path, dim, embedder_id)
        total = db.execute("SELECT count(*) FROM rows").fetchone()[0]
        after = checked = masked = 0
        with tqdm(total=total, desc="masking", unit="row", disable=None) as bar:
            while page := db.execute(_PAGE, (after, BATCH_ROWS)).fetchall():
                changes = _changes(page, embed, dim)
                applied = 0
                if changes:
                    with transaction(db, "IMMEDIATE"):
                        check_vectors(db, path, dim, embedder_id)
                        applied = sum(db.execute(_UPDATE, change).rowcount for change in changes)
                masked += applied
                if applied < len(changes):  # another process changed some of these rows: read the page again
                    continue
                checked += len(page)
                after = page[-1][0]
                bar.update(len(page))
        compact(db, path)
        _check_nothing_is_left(db, path)
    return checked, masked


def _changes(page: list[tuple[int, str, str]], embed: Encode, dim: int) -> list[tuple[object, ...]]:
    """Return the values of `_UPDATE` for the rows that contain account numbers; the vector is None if it stays."""
    values: list[tuple[object, ...]] = []
    for seq, text, metadata in page:
        new_text, kept = mask(text), json.loads(metadata)
        new = mask_metadata(kept)
        if new_text == text and new == kept:
            continue
        new_metadata = metadata if new == kept else json.dumps(new, ensure_ascii=False)
        vector = None
        if new_text != text:
            vector = unit_vectors(embed_texts(embed, [new_text]), dim)[0].astype(FLOAT32).tobytes()
        values.append((new_text, new_metadata, vector, seq, text, metadata))
    return values


def _check_nothing_is_left(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        raise StoreError(
            f"The rows of {path} are masked, but its write-ahead log still contains original texts, because another "
            "process reads the file. Stop that process, then run again: bankllm memory mask."
        )
    names = db.execute("SELECT DISTINCT namespace FROM rows").fetchall()
    if found := sum(mask(name) != name for (name,) in names):
        raise StoreError(
            f"The rows of {path} are masked, but {found} customer or collection names look like account numbers. Names "
            "cannot be masked, because rows are stored under them. Store those rows under other names, then delete the "
            "original ones."
        )
