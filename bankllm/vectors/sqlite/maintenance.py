"""A copy of a store's file as it stands at one moment, made while others write: `bankllm memory backup`.

copy_file(Path("memory.sqlite"), Path("memory-monday.sqlite"))

The copy is a store like any other. It gets its name once it is whole, checked and on disk.
"""

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from bankllm.errors import StoreError
from bankllm.vectors.sqlite.connection import BUSY_TIMEOUT_S, open_existing, store_errors

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
