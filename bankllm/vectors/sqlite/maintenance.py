"""A copy of a store's file as it stands at one moment, made while others write: `bankllm memory backup`.

copy_file(Path("memory.sqlite"), Path("memory-monday.sqlite"))

The copy is a store like any other. It gets its name once it is whole, checked and on disk.
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
"""8 MiB a step; writers go on in between, and what they change makes the copy begin anew."""
RESTARTS = 3
"""After so many the rest is copied in one step, for which writers wait."""


class _Restarted(Exception):
    pass


def copy_file(source: Path, target: Path, wait_s: float = BUSY_TIMEOUT_S) -> None:
    """Copy a store's file, whichever embedder it is for.

    Raises `StoreError` where `source` is no store, or `target` is there already or cannot be written.
    """
    with closing(open_existing(source, wait_s)) as db:
        copy_open(db, target)


def copy_open(db: sqlite3.Connection, target: Path) -> None:
    """Copy what a connection is open on, with SQLite's online backup. Raises `StoreError` as `copy_file` does."""
    _refuse_existing(target)
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}. Give a path in a folder that can.") from error
    temporary = Path(name)
    try:
        with store_errors(target), closing(sqlite3.connect(temporary)) as copy:
            _copy(db, copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, whatever the source's mode
            faults = copy.execute("PRAGMA integrity_check").fetchall()
        if faults != [("ok",)]:
            raise StoreError(f"The copy for {target} is damaged, as its source must be: {faults[0][0]}.")
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
    left: int | None = None
    restarts = 0

    def watch(status: int, remaining: int, total: int) -> None:
        nonlocal left, restarts
        restarts += left is not None and remaining >= left
        left = remaining
        if restarts > RESTARTS:
            raise _Restarted

    try:
        db.backup(copy, pages=STEP_PAGES, progress=watch, sleep=0.005)
    except _Restarted:
        db.backup(copy)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise StoreError(f"{target} is there already. A backup replaces no file: give another name, or remove it.")


COMPACT_ON_CLOSE_BYTES = 256 * 2**20
"""A file up to this size is compacted by `close`: a second or two. A larger one when somebody asks for it."""
CLOSE_WAIT_MS = 1000

_REMOVED = "SELECT value FROM meta WHERE key = 'removed'"
_LOG = logging.getLogger(__name__)


def compact(db: sqlite3.Connection, path: Path | None) -> bool:
    """Write the file anew if rows were removed or replaced since the last time; whether it was.

    Takes as much free disk as twice the file; others wait meanwhile. Raises `StoreError`; the file is as before then.
    """
    with store_errors(path):
        removed = db.execute(_REMOVED).fetchone()
        if removed is None:
            return False
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # does nothing in the other journal mode
        with transaction(db, "IMMEDIATE"):  # not if more was removed meanwhile
            db.execute("DELETE FROM meta WHERE key = 'removed' AND value = ?", removed)
    return True


def compact_on_close(db: sqlite3.Connection, path: Path) -> None:
    """Compact a file that is not large. What hinders it is logged, and left to whoever closes the file next."""
    try:
        db.execute(f"PRAGMA busy_timeout = {CLOSE_WAIT_MS}")
        pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        if pages * size <= COMPACT_ON_CLOSE_BYTES:
            compact(db, path)
        elif db.execute(_REMOVED).fetchone():
            _LOG.info("%s is too large to be compacted on closing: run `bankllm memory compact` at times.", path)
    except (sqlite3.Error, StoreError) as error:
        _LOG.warning("%s could not be compacted (%s); it will be when it is closed next.", path, error)
