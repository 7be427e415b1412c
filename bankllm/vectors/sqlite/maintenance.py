"""Back up and compact a store's file: `bankllm memory backup` and `bankllm memory compact`.

copy_file(Path("memory.sqlite"), Path("memory-monday.sqlite"))

A backup is a consistent copy, made while other processes write. It is written under a temporary name and renamed after
it is complete, checked and synced to disk. Compacting rewrites the file, so that no bytes of deleted rows remain.
"""

import logging
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from bankllm.errors import StoreError
from bankllm.vectors.sqlite.connection import BUSY_TIMEOUT_S, open_existing, store_errors, transaction

STEP_PAGES = 2048
"""Pages per backup step (8 MiB). Other processes can write between two steps; SQLite then restarts the copy."""
RESTARTS = 3
"""After more restarts than this, the copy is made in one step and writers wait."""


class _TooManyRestarts(Exception):
    pass


def copy_file(source: Path, target: Path, wait_s: float = BUSY_TIMEOUT_S) -> None:
    """Copy a store's file of any embedder to a new file.

    Raises `StoreError` if `source` is not a store, or if `target` exists or cannot be written.
    """
    with closing(open_existing(source, wait_s)) as db:
        copy_open(db, target)


def copy_open(db: sqlite3.Connection, target: Path) -> None:
    """Copy the database of an open connection with SQLite's online backup. Raises `StoreError` as `copy_file` does."""
    _refuse_existing(target)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise StoreError(
            f"{target} cannot be written: {error.strerror}. Use a path in a folder that exists and is writable."
        ) from error
    temporary = Path(name)
    try:
        with store_errors(target), closing(sqlite3.connect(temporary)) as copy:
            _copy(db, copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # a single file, in any journal mode of the source
            faults = copy.execute("PRAGMA integrity_check").fetchall()
        if faults != [("ok",)]:
            raise StoreError(
                f"The copy for {target} failed its integrity check ({faults[0][0]}), so its source is damaged too. No "
                "copy was written; restore an earlier backup."
            )
        os.fsync(handle)
        _refuse_existing(target)
        temporary.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _copy(db: sqlite3.Connection, copy: sqlite3.Connection) -> None:
    previous: int | None = None
    restarts = 0

    def count_restarts(status: int, remaining: int, total: int) -> None:
        nonlocal previous, restarts
        restarts += previous is not None and remaining >= previous
        previous = remaining
        if restarts > RESTARTS:
            raise _TooManyRestarts

    try:
        db.backup(copy, pages=STEP_PAGES, progress=count_restarts, sleep=0.005)
    except _TooManyRestarts:
        db.backup(copy)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise StoreError(
            f"{target} already exists. A backup never replaces a file: use another name, or delete that file first."
        )


COMPACT_ON_CLOSE_BYTES = 256 * 2**20
"""`close` compacts files up to this size (1-2 s). Larger files are compacted only by `bankllm memory compact`."""
CLOSE_WAIT_MS = 1000
"""Maximum wait of `close` for other processes before it skips compaction."""

_REMOVED = "SELECT value FROM meta WHERE key = 'removed'"
_LOG = logging.getLogger(__name__)


def compact(db: sqlite3.Connection, path: Path | None) -> bool:
    """Rewrite the file if rows were deleted or replaced since the last compaction; return whether it was rewritten.

    Needs free disk space of twice the file size; other processes wait until it is done. Raises `StoreError`; the file
    is then unchanged.
    """
    with store_errors(path):
        removed = db.execute(_REMOVED).fetchone()
        if removed is None:
            return False
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # no effect in rollback-journal mode
        with transaction(db, "IMMEDIATE"):  # keeps the mark if more rows were deleted in the meantime
            db.execute("DELETE FROM meta WHERE key = 'removed' AND value = ?", removed)
    return True


def compact_on_close(db: sqlite3.Connection, path: Path) -> None:
    """Compact a file of up to `COMPACT_ON_CLOSE_BYTES`. Errors are only logged; the next close tries again."""
    try:
        db.execute(f"PRAGMA busy_timeout = {CLOSE_WAIT_MS}")
        pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if pages * size <= COMPACT_ON_CLOSE_BYTES:
            compact(db, path)
        elif db.execute(_REMOVED).fetchone():
            _LOG.info("%s is too large to be compacted on close: run `bankllm memory compact` regularly.", path)
    except (sqlite3.Error, StoreError) as error:
        _LOG.warning("%s could not be compacted (%s); the next close tries again.", path, error)
