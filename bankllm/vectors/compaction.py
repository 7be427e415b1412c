"""Rewrite a store's file so that it holds what its rows hold, and nothing of removed ones: `bankllm memory compact`.

compact(db, path)

SQLite overwrites what it deletes. But where it had moved a row between pages before, the copy that it left in the gap
of a page stays: seen for 1 of 7,355 removed vectors in random writes. Only writing all pages anew (`VACUUM`) is sure.
"""

import logging
import sqlite3
from pathlib import Path

from bankllm.errors import StoreError
from bankllm.vectors.sqlite.connection import store_errors, transaction

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
