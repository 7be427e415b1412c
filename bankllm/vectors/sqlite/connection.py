"""Open a vector store's SQLite file without trusting it, and run transactions that keep every promise.

The settings follow measurements and SQLite's own bug list: a rollback journal where this SQLite's WAL mode
can lose a commit, every commit synced, no memory-mapped reads, deleted bytes overwritten.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bankllm.errors import StoreError
from bankllm.vectors.sqlite.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION
from bankllm.vectors.storage_precision import Precision

BUSY_TIMEOUT_S = 30.0
"""How long one call waits for other threads and processes that use the file."""

_ADVICE = {
    "SQLITE_BUSY": "Another process holds the file; end it, or try again.",
    "SQLITE_CANTOPEN": "Expected a path in a folder that exists and can be written.",
    "SQLITE_CORRUPT": "The file is damaged or cut short; put it aside and restore a backup.",
    "SQLITE_IOERR": "Check the disk (its space, its health, limits on this user's files), and that this user can write "
    "the file and those beside it; then repeat the call.",
    "SQLITE_FULL": "Free some disk space, then repeat the call.",
    "SQLITE_NOTADB": "Expected a file that bankllm wrote; give another path, or put this file aside.",
    "SQLITE_READONLY": "Expected a file and a folder that this user can write; change the permissions or the path.",
}


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Whether this SQLite has the fix for commits lost when two connections write and checkpoint in WAL mode.

    Fixed in 3.51.3, and in 3.50.7 and 3.44.6 of the older lines (https://sqlite.org/wal.html, the WAL-reset bug).
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


def open_file(
    path: Path | None, dim: int, embedder_id: str, wait_s: float = BUSY_TIMEOUT_S, precision: Precision | None = None
) -> sqlite3.Connection:
    """Open or create a store's file, or bring an older one up to date; `None` opens a private one in memory.

    A new file keeps vectors in `precision` (float32 if none is given), an old one in what it was made with.
    Raises `StoreError` for a file that is damaged, another program's, of a newer schema, read-only, of another
    precision than the one asked for, or that holds another embedder's vectors; such a file is left as it is.
    """
    with _connected(path, wait_s) as (db, schema), transaction(db, "IMMEDIATE"):
        _check_size(db, path)
        if schema < SCHEMA_VERSION:
            _create_or_migrate(db, {"dim": str(dim), "embedder": embedder_id, "precision": precision or "float32"})
        db.execute("DELETE FROM meta WHERE false")  # shows at once whether the file can be written: BEGIN does not
        check_vectors(db, path, dim, embedder_id, precision)
    return db


def open_existing(path: Path, wait_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open a store's file whichever embedder it is for, an older one brought up to date. Raises as `open_file` does."""
    if not path.is_file():
        raise StoreError(f"There is no file {path}. Expected one that bankllm wrote; check the path.")
    with _connected(path, wait_s) as (db, schema):
        if not schema:
            raise StoreError(f"{path} is empty. Expected a store with rows; check the path.")
        with transaction(db, "IMMEDIATE"):
            _check_size(db, path)
            if schema < SCHEMA_VERSION:
                _create_or_migrate(db, {"precision": "float32"})
    return db


@contextmanager
def _connected(path: Path | None, wait_s: float) -> Iterator[tuple[sqlite3.Connection, int]]:
    """A connection that keeps every promise, and the file's schema; closed again where what follows fails."""
    with store_errors(path):
        db = sqlite3.connect(path or ":memory:", timeout=wait_s, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA mmap_size = 0")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
            schema = _schema(db, path)
            _set_journal(db, path)
            yield db, schema
        except BaseException:
            db.close()
            raise


@contextmanager
def transaction(db: sqlite3.Connection, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[None]:
    """Commit what is done inside, all of it or nothing."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


@contextmanager
def store_errors(path: Path | None) -> Iterator[None]:
    """Turn SQLite's errors into a `StoreError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")  # such as SQLITE_READONLY_DIRECTORY
        advice = next((text for code, text in _ADVICE.items() if name.startswith(code)), "")
        message = f"The vector store {path or 'in memory'} failed: {error}. What was committed before is unchanged."
        raise StoreError(f"{message} {advice}".rstrip()) from error


def _schema(db: sqlite3.Connection, path: Path | None) -> int:
    """Which schema the file has; 0 for a new one."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application == 0 and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return 0
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is another program's SQLite file. {_ADVICE['SQLITE_NOTADB']}")
    schema = db.execute("PRAGMA user_version").fetchone()[0]
    if not 1 <= schema <= SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema {schema}, but this bankllm reads schemas 1 to {SCHEMA_VERSION}. Upgrade bankllm, or "
            "give another path."
        )
    return schema


def _set_journal(db: sqlite3.Connection, path: Path | None) -> None:
    wanted = "wal" if wal_is_safe(sqlite3.sqlite_version_info) else "truncate"
    got = db.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0]
    if got != wanted and path is not None:
        raise StoreError(
            f"{path} is in journal mode {got} and could not be set to {wanted}. Close the other programs that have it "
            "open, then try again."
        )


def _create_or_migrate(db: sqlite3.Connection, meta: Mapping[str, str]) -> None:
    # Each schema only adds to the one before. Another process may have got here first: all of it leaves what is there.
    for statement in SCHEMA:
        db.execute(statement)
    db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", meta.items())
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _check_size(db: sqlite3.Connection, path: Path | None) -> None:
    """SQLite itself takes what was cut off the last page for zeros."""
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    journal = db.execute("PRAGMA journal_mode").fetchone()[0]  # in WAL mode pages may be in the log alone
    if path is not None and journal != "wal" and 0 < path.stat().st_size < pages * size:
        raise StoreError(f"{path} ends within its last page. {_ADVICE['SQLITE_CORRUPT']}")


def read_meta(db: sqlite3.Connection) -> dict[str, str]:
    """What the file says of its vectors: `dim`, `embedder`, `precision`."""
    return dict(db.execute("SELECT key, value FROM meta WHERE key IN ('dim', 'embedder', 'precision')").fetchall())


def check_vectors(
    db: sqlite3.Connection, path: Path | None, dim: int, embedder_id: str, precision: Precision | None
) -> None:
    """Raises `StoreError` where the file holds another embedder's vectors, or of another precision than is expected.

    That may come while the file is open, since `reindex` replaces the vectors; so it belongs into each transaction.
    """
    kept = read_meta(db)
    if (kept.get("embedder"), kept.get("dim")) != (embedder_id, str(dim)):
        raise StoreError(
            f"{path} holds vectors of {kept.get('embedder')} (dim {kept.get('dim')}), but this embedder is "
            f"{embedder_id} (dim {dim}); their vectors cannot be compared. Use that embedder, or a new file, or embed "
            "its texts anew: bankllm memory reindex."
        )
    if precision not in (None, kept["precision"]):
        raise StoreError(
            f"{path} keeps its vectors as {kept['precision']}, not {precision}. Open it without naming a precision, "
            f"or write a new file, or change this one: bankllm memory reindex --precision {precision}."
        )
