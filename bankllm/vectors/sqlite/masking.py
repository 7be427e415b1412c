"""Mask account numbers in what a store's file already holds: `bankllm memory mask`, while others use the file.

mask_rows(Path("memory.sqlite"), embedder.encode, embedder.dim, embedder.model_id)

Each batch is one transaction, and a row's text, metadata and vector change together. A call that was killed is
repeated: what is masked already stays as it is. At the end the file is rewritten, so that no former text is left in it.
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
# `text` is always set: its trigger notes that the file holds a former text until it is compacted.
_UPDATE = """UPDATE rows SET text = ?, metadata = ?, vector = coalesce(?, vector)
    WHERE seq = ? AND text = ? AND metadata = ?"""


class Change(NamedTuple):
    """A row that changes: what it holds, and what it will hold."""

    seq: int
    text: str
    metadata: str
    """As JSON."""
    new_text: str
    new_metadata: str


class MaskedRows(NamedTuple):
    """What `mask_rows` has done."""

    looked_at: int
    masked: int
    waiting: int
    """Changes in the outbox that Pinecone does not have yet; 0 in a file that does not replicate."""


def mask_rows(
    path: Path,
    embed: EmbedTexts,
    dim: int,
    embedder_id: str,
    *,
    progress: bool = False,
    wait_s: float = BUSY_TIMEOUT_S,
) -> MaskedRows:
    """Mask the texts and metadata of all rows; ids and order stay. Rows whose text changes are embedded again.

    In a file that replicates, changed rows enter the outbox, so that Pinecone gets them too. Raises `StoreError` for
    a file that another embedder made, where another process keeps the former state in use, and, with all rows masked,
    where the name of a customer or collection reads as an account number.
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
    after = looked_at = masked = 0
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
            if applied < len(changes):  # others have changed or removed some of these rows: look at the page again
                continue
            looked_at += len(page)
            after = page[-1][0]
            bar.update(len(page))
    waiting = db.execute("SELECT count(*) FROM outbox WHERE pushed_at IS NULL").fetchone()[0]
    return MaskedRows(looked_at, masked, waiting)


def _change(row: tuple[int, str, str]) -> Change | None:
    """How a row changes; None where it holds no account number."""
    seq, text, metadata = row
    kept = json.loads(metadata)
    new = mask_metadata(kept)
    new_text = mask(text)
    if new_text == text and new == kept:
        return None
    new_metadata = metadata if new == kept else json.dumps(new, ensure_ascii=False)
    return Change(seq, text, metadata, new_text, new_metadata)


def _vectors(db: sqlite3.Connection, changes: list[Change], embed: EmbedTexts, dim: int) -> list[bytes | None]:
    """For each change the vector of its new text as the file keeps it; None where the text stays."""
    texts = [change.new_text for change in changes if change.new_text != change.text]
    if not texts:
        return [None] * len(changes)
    precision = precision_of(read_meta(db)["precision"])
    new = iter(encode(unit_vectors(list(embed(texts)), dim), precision))
    return [next(new) if change.new_text != change.text else None for change in changes]


def _check_log(db: sqlite3.Connection, path: Path) -> None:
    """A write-ahead log that another process still reads may hold former texts."""
    busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise StoreError(
            f"The rows of {path} are masked, but its log still holds former texts, since another process reads it. "
            "Expected no reader for as long as a call waits; end the other process, then repeat: bankllm memory mask."
        )


def _check_names(db: sqlite3.Connection, path: Path) -> None:
    names = [name for (name,) in db.execute("SELECT DISTINCT namespace FROM rows")]
    if found := sum(mask(name) != name for name in names):
        raise StoreError(
            f"The rows of {path} are masked, but the names of {found} of its customers or collections read as account "
            "numbers, and a name cannot be masked: rows are found by it. Store those rows under another name, then "
            "remove the former ones."
        )
