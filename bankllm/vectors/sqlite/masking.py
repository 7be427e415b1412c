"""Mask account numbers in the rows of an existing store's file: `bankllm memory mask`.

mask_rows(Path("memory.sqlite"), embedder.encode, embedder.dim, embedder.model_id)

Other processes can use the file. Each batch is one transaction, in which a row's text, metadata and vector change
together. If the call is killed, run it again; rows that are already masked do not change. At the end the file is
rewritten, so that it contains no bytes of the original texts.
"""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bankllm.errors import StoreError
from bankllm.util.redaction import mask, mask_metadata
from bankllm.vectors.embedding_cache import clear_embeddings
from bankllm.vectors.rows import unit_vectors
from bankllm.vectors.sqlite.connection import (
    BUSY_TIMEOUT_S,
    check_vectors,
    open_existing,
    read_meta,
    store_errors,
    transaction,
)
from bankllm.vectors.sqlite.maintenance import compact
from bankllm.vectors.sqlite.reindex import EmbedTexts
from bankllm.vectors.storage_precision import encode, precision_of

BATCH_ROWS = 256
"""Rows per transaction."""

_PAGE = "SELECT seq, text, metadata FROM rows WHERE seq > ? ORDER BY seq LIMIT ?"
# `text` is always set: its trigger records that the file contains an old text until it is compacted.
_UPDATE = """UPDATE rows SET text = ?, metadata = ?, vector = coalesce(?, vector)
    WHERE seq = ? AND text = ? AND metadata = ?"""


class Change(NamedTuple):
    """A row to be masked, with its old and new values."""

    seq: int
    text: str
    metadata: str
    """JSON."""
    new_text: str
    new_metadata: str
    """JSON."""


class MaskedRows(NamedTuple):
    """Result of `mask_rows`: numbers of rows."""

    checked: int
    masked: int
    pending: int
    """Outbox entries not yet pushed to Pinecone; 0 in a file that is not replicated."""


def mask_rows(
    path: Path,
    embed: EmbedTexts,
    dim: int,
    embedder_id: str,
    *,
    progress: bool = False,
    wait_s: float = BUSY_TIMEOUT_S,
) -> MaskedRows:
    """Mask account numbers in the texts and metadata of all rows; rows whose text changes are embedded again.

    Ids and order do not change. In a replicated file, changed rows enter the outbox, so that they are also changed in
    Pinecone. Raises `StoreError` if the file belongs to another embedder. Raises `StoreError` after masking all rows if
    another process still reads the old state, or if the name of a customer or collection looks like an account number.
    """
    with store_errors(path), closing(open_existing(path, wait_s)) as db:
        check_vectors(db, path, dim, embedder_id, None)
        done = _mask_all(db, path, embed, dim, embedder_id, progress)
        compact(db, path)
        _check_log(db, path)
        _check_names(db, path)
    return done


def _mask_all(
    db: sqlite3.Connection,
    path: Path,
    embed: EmbedTexts,
    dim: int,
    embedder_id: str,
    progress: bool,
) -> MaskedRows:
    from tqdm.auto import tqdm

    total = db.execute("SELECT count(*) FROM rows").fetchone()[0]
    after = checked = masked = 0
    with tqdm(total=total, desc="masking", unit="row", disable=not progress) as bar:
        while page := db.execute(_PAGE, (after, BATCH_ROWS)).fetchall():
            changes = [change for row in page if (change := _change(row)) is not None]
            vectors = _vectors(db, changes, embed, dim)
            applied = 0
            if changes:
                with transaction(db, "IMMEDIATE"):
                    check_vectors(db, path, dim, embedder_id, None)
                    for change, vector in zip(changes, vectors, strict=True):
                        values = (
                            change.new_text,
                            change.new_metadata,
                            vector,
                            change.seq,
                            change.text,
                            change.metadata,
                        )
                        applied += db.execute(_UPDATE, values).rowcount
                    clear_embeddings(db)
            masked += applied
            if applied < len(changes):  # another process changed or deleted some of these rows: read the page again
                continue
            checked += len(page)
            after = page[-1][0]
            bar.update(len(page))
    pending = db.execute("SELECT count(*) FROM outbox WHERE pushed_at IS NULL").fetchone()[0]
    return MaskedRows(checked, masked, pending)


def _change(row: tuple[int, str, str]) -> Change | None:
    """Return the masked values of a row; None if it contains no account number."""
    seq, text, metadata = row
    kept = json.loads(metadata)
    new = mask_metadata(kept)
    new_text = mask(text)
    if new_text == text and new == kept:
        return None
    new_metadata = metadata if new == kept else json.dumps(new, ensure_ascii=False)
    return Change(seq, text, metadata, new_text, new_metadata)


def _vectors(db: sqlite3.Connection, changes: list[Change], embed: EmbedTexts, dim: int) -> list[bytes | None]:
    """Return the encoded vector of each change's new text; None if the text does not change."""
    texts = [change.new_text for change in changes if change.new_text != change.text]
    if not texts:
        return [None] * len(changes)
    precision = precision_of(read_meta(db)["precision"])
    new = iter(encode(unit_vectors(list(embed(texts)), dim), precision))
    return [next(new) if change.new_text != change.text else None for change in changes]


def _check_log(db: sqlite3.Connection, path: Path) -> None:
    """Raises `StoreError` if the write-ahead log cannot be emptied; it may then contain original texts."""
    busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise StoreError(
            f"The rows of {path} are masked, but its write-ahead log still contains original texts, because another "
            "process reads the file. Stop that process, then run again: bankllm memory mask."
        )


def _check_names(db: sqlite3.Connection, path: Path) -> None:
    names = [name for (name,) in db.execute("SELECT DISTINCT namespace FROM rows")]
    if found := sum(mask(name) != name for name in names):
        raise StoreError(
            f"The rows of {path} are masked, but {found} customer or collection names look like account numbers. Names "
            "cannot be masked, because rows are stored under them. Store those rows under other names, then delete the "
            "original ones."
        )
