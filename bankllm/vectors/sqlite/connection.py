"""Open, check and migrate a store's SQLite file, and run durable transactions on it.

Settings: every commit is synced (`synchronous = FULL`), deleted bytes are overwritten (`secure_delete`), and reads are
not memory-mapped. The journal mode is WAL, or a rollback journal (`TRUNCATE`) if this SQLite version has the WAL bug
that can lose commits (see `wal_is_safe`).
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
"""Maximum time in seconds that one call waits for other threads and processes that use the file."""

_ADVICE = {
    "SQLITE_BUSY": "Another process has locked the file; stop that process, or try again.",
    "SQLITE_CANTOPEN": "Expected a path in a folder that exists and is writable.",
    "SQLITE_CORRUPT": "The file is damaged or truncated; move it away and restore a backup.",
    "SQLITE_IOERR": "Check the disk (free space, health, file size limits of this user) and that this user can write "
    "the file and its journal files; then repeat the call.",
    "SQLITE_FULL": "Free some disk space, then repeat the call.",
    "SQLITE_NOTADB": "Expected a file that bankllm wrote; use another path, or move this file away.",
    "SQLITE_READONLY": "Expected a file and a folder that this user can write; change the permissions or the path.",
}


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite has the fix for commits lost when two connections write and checkpoint in WAL mode.

    Fixed in 3.51.3, and in 3.50.7 and 3.44.6 of the older lines (https://sqlite.org/wal.html, the WAL-reset bug).
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


def open_file(
    path: Path | None, dim: int, embedder_id: str, wait_s: float = BUSY_TIMEOUT_S, precision: Precision | None = None
) -> sqlite3.Connection:
    """Open or create a store's file and migrate an older schema; `None` opens a private in-memory database.

    A new file stores vectors in `precision` (default float32); an existing file keeps its precision. Raises
    `StoreError` for a file that is damaged, was written by another program, has a newer schema, is read-only, has
    another precision than requested, or holds vectors of another embedder. Such a file is not changed.
    """
    with _connected(path, wait_s) as (db, schema), transaction(db, "IMMEDIATE"):
        _check_size(db, path)
        if schema < SCHEMA_VERSION:
            _create_or_migrate(db, {"dim": str(dim), "embedder": embedder_id, "precision": precision or "float32"})
        db.execute("DELETE FROM meta WHERE false")  # fails if the file is read-only, which BEGIN does not check
        check_vectors(db, path, dim, embedder_id, precision)
    return db


def open_existing(path: Path, wait_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open an existing store's file of any embedder and migrate an older schema. Raises as `open_file` does."""
    if not path.is_file():
        raise StoreError(
            f"There is no file {path}. Expected a vector store that bankllm wrote; check the path (--store)."
        )
    with _connected(path, wait_s) as (db, schema):
        if not schema:
            raise StoreError(f"{path} is empty. Expected a vector store that bankllm wrote; check the path (--store).")
        with transaction(db, "IMMEDIATE"):
            _check_size(db, path)
            if schema < SCHEMA_VERSION:
                _create_or_migrate(db, {"precision": "float32"})
    return db


@contextmanager
def _connected(path: Path | None, wait_s: float) -> Iterator[tuple[sqlite3.Connection, int]]:
    """Yield a connection with all settings and the file's schema version; close it if the body raises."""
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
    """Run the body in a transaction: commit at the end, roll back on an exception."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


@contextmanager
def store_errors(path: Path | None) -> Iterator[None]:
    """Convert SQLite's errors to a `StoreError` with advice."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")  # such as SQLITE_READONLY_DIRECTORY
        advice = next((text for code, text in _ADVICE.items() if name.startswith(code)), "")
        message = f"The vector store {path or 'in memory'} failed: {error}. Data stored before is unchanged."
        raise StoreError(f"{message} {advice}".rstrip()) from error


def _schema(db: sqlite3.Connection, path: Path | None) -> int:
    """Return the file's schema version; 0 for a new file."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application == 0 and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return 0
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is another program's SQLite file. {_ADVICE['SQLITE_NOTADB']}")
    schema = db.execute("PRAGMA user_version").fetchone()[0]
    if not 1 <= schema <= SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema {schema}, but this bankllm reads schemas 1 to {SCHEMA_VERSION}. Upgrade bankllm, or "
            "use another path."
        )
    return schema


def _set_journal(db: sqlite3.Connection, path: Path | None) -> None:
    wanted = "wal" if wal_is_safe(sqlite3.sqlite_version_info) else "truncate"
    got = db.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0]
    if got != wanted and path is not None:
        raise StoreError(
            f"{path} is in journal mode {got} and could not be set to {wanted}. Close other programs that have the "
            "file open, then try again."
        )


def _create_or_migrate(db: sqlite3.Connection, meta: Mapping[str, str]) -> None:
    # Each schema version only adds objects. All statements skip existing ones, because another process may have run
    # the migration in the meantime.
    for statement in SCHEMA:
        db.execute(statement)
    db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", meta.items())
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _check_size(db: sqlite3.Connection, path: Path | None) -> None:
    """Raises `StoreError` for a file that ends within its last page; SQLite would read the missing bytes as zeros."""
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    journal = db.execute("PRAGMA journal_mode").fetchone()[0]  # in WAL mode, pages may be only in the log
    if path is not None and journal != "wal" and 0 < path.stat().st_size < pages * size:
        raise StoreError(f"{path} ends within its last page. {_ADVICE['SQLITE_CORRUPT']}")


def read_meta(db: sqlite3.Connection) -> dict[str, str]:
    """Return the file's description of its vectors: `dim`, `embedder`, `precision`."""
    return dict(db.execute("SELECT key, value FROM meta WHERE key IN ('dim', 'embedder', 'precision')").fetchall())


def check_vectors(
    db: sqlite3.Connection, path: Path | None, dim: int, embedder_id: str, precision: Precision | None
) -> None:
    """Raises `StoreError` if the file holds vectors of another embedder or of another precision than `precision`.

    Call it in each transaction, because `reindex` can replace the vectors while the file is open.
    """
    kept = read_meta(db)
    if (kept.get("embedder"), kept.get("dim")) != (embedder_id, str(dim)):
        raise StoreError(
            f"{path} holds vectors of {kept.get('embedder')} (dim {kept.get('dim')}), but this embedder is "
            f"{embedder_id} (dim {dim}); vectors of different embedders cannot be compared. Use the file's embedder or "
            "a new file, or re-embed the texts: bankllm memory reindex."
        )
    if precision not in (None, kept["precision"]):
        raise StoreError(
            f"{path} stores its vectors as {kept['precision']}, not {precision}. Open the file without a precision, "
            f"create a new file, or convert this one: bankllm memory reindex --precision {precision}."
        )
