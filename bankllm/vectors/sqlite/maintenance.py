"""Back up, compact and re-embed a store's file: `bankllm memory backup`, `compact` and `reindex`.

Backup and compaction rewrite the rows into new pages, so that no bytes of deleted rows remain. Other processes can use
the file while its texts are embedded. One transaction then replaces all vectors; from then on, stores with the old
embedder raise `StoreError`.
"""

import logging
import sqlite3
from pathlib import Path

from tqdm.auto import tqdm

from bankllm.errors import StoreError
from bankllm.util.atomic_files import flush_to_disk
from bankllm.util.sqlite import transaction
from bankllm.vectors.embedder import Encode, embed_texts
from bankllm.vectors.rows import unit_vectors
from bankllm.vectors.sqlite.file import FLOAT32, existing, read_meta, store_errors

COMPACT_ON_CLOSE_BYTES, CLOSE_WAIT_MS = 256 * 2**20, 1000
"""`close` compacts files up to this size (1-2 s), and waits this long for other processes."""
BATCH_ROWS = 256
"""Texts per call of the embedder."""

_REMOVED = "SELECT value FROM meta WHERE key = 'removed'"
_LOG = logging.getLogger(__name__)


def back_up(source: Path, target: Path) -> None:
    """Copy a store's file of any embedder to a new file; other processes can read it meanwhile, and writers wait.

    Raises `StoreError` if `source` is not a store or is damaged, or if `target` exists or cannot be written.
    """
    if target.exists():
        raise StoreError(
            f"{target} already exists. A backup never replaces a file: use another name, or delete that file first."
        )
    temporary = target.with_name(f".{target.name}.new")
    with existing(source) as db:
        faults = db.execute("PRAGMA integrity_check").fetchall()
        if faults != [("ok",)]:
            raise StoreError(
                f"{source} is damaged ({faults[0][0]}). No copy was written; move the file away and restore an earlier "
                "backup."
            )
        try:
            temporary.unlink(missing_ok=True)  # of a backup that was killed
            with store_errors(target):
                db.execute("VACUUM INTO ?", (str(temporary),))
            flush_to_disk(temporary)
            temporary.replace(target)
            flush_to_disk(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def compact(path: Path) -> bool:
    """Rewrite the file if rows were deleted or replaced since the last compaction; return whether it was rewritten.

    Needs free disk space of twice the file size. Raises `StoreError`; the file is then unchanged.
    """
    with existing(path) as db:
        return _compact(db)


def _compact(db: sqlite3.Connection) -> bool:
    removed = db.execute(_REMOVED).fetchone()
    if removed is None:
        return False
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # no effect in rollback-journal mode
    with transaction(db):  # keeps the mark if more rows were deleted in the meantime
        db.execute("DELETE FROM meta WHERE key = 'removed' AND value = ?", removed)
    return True


def compact_on_close(db: sqlite3.Connection, path: Path | None) -> None:
    """Compact a file of up to `COMPACT_ON_CLOSE_BYTES`. Errors are only logged; the next close tries again."""
    try:
        db.execute(f"PRAGMA busy_timeout = {CLOSE_WAIT_MS}")
        pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if pages * size <= COMPACT_ON_CLOSE_BYTES:
            _compact(db)
        elif db.execute(_REMOVED).fetchone():
            _LOG.info("%s is too large to be compacted on close: run `bankllm memory compact` regularly.", path)
    except sqlite3.Error as error:
        _LOG.warning("%s could not be compacted (%s); the next close tries again.", path, error)


def reindex(path: Path, embed: Encode, dim: int, embedder_id: str) -> int:
    """Re-embed all texts of the file and return their number; 0 if it already has this embedder.

    Rows that are written, replaced or deleted during the call are included. A call that fails or is killed changes
    nothing.
    """
    wanted = {"dim": str(dim), "embedder": embedder_id}
    embedded: dict[str, bytes] = {}
    with existing(path) as db:
        while True:
            with transaction(db):
                if read_meta(db) == wanted:
                    return 0
                rows = db.execute("SELECT seq, text FROM rows").fetchall()
                new = list(dict.fromkeys(text for _, text in rows if text not in embedded))
                if not new:
                    db.executemany("UPDATE rows SET vector = ? WHERE seq = ?", [(embedded[t], seq) for seq, t in rows])
                    db.executemany("UPDATE meta SET value = ? WHERE key = ?", [(v, k) for k, v in wanted.items()])
                    return len(rows)
            with tqdm(total=len(new), desc="embedding", unit="text", disable=None) as bar:
                for start in range(0, len(new), BATCH_ROWS):
                    batch = new[start : start + BATCH_ROWS]
                    vectors = unit_vectors(embed_texts(embed, batch), dim).astype(FLOAT32)
                    embedded |= {text: vector.tobytes() for text, vector in zip(batch, vectors, strict=True)}
                    bar.update(len(batch))
