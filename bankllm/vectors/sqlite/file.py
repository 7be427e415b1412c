"""Open and check a store's SQLite file, and run transactions on it.

Every commit is synced (`synchronous = FULL`), and deleted bytes are overwritten (`secure_delete`). The journal mode is
WAL, or a rollback journal (`TRUNCATE`) if this SQLite version has a WAL bug (see `wal_is_safe`).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from bankllm.errors import StoreError
from bankllm.util.sqlite import advice, run_script, transaction

APPLICATION_ID = 0x42564543
"""Value of `PRAGMA application_id` in the file header; identifies files written by bankllm."""
SCHEMA_VERSION = 5
BUSY_TIMEOUT_S = 30.0
"""Maximum time in seconds that one call waits for other threads and processes that use the file."""
FLOAT32 = np.dtype("<f4")
"""Stored vectors are little-endian on all machines."""


def wal_is_safe(version: tuple[int, int, int]) -> bool:
    """Return whether this SQLite has the fix for commits lost when two connections write and checkpoint in WAL mode.

    Fixed in 3.51.3, and in 3.50.7 and 3.44.6 of the older lines (https://sqlite.org/wal.html, the WAL-reset bug).
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51, 0) or (3, 44, 6) <= version < (3, 45, 0)


def open_file(path: Path | None, dim: int, embedder_id: str, wait_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """Open or create a store's file; `None` opens a private in-memory database.

    Raises `StoreError` for a file that is damaged, was written by another program, has another schema, is read-only, or
    holds vectors of another embedder. Such a file is not changed.
    """
    return _open(path, wait_s, (dim, embedder_id))


@contextmanager
def existing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing store's file of any embedder; errors are those of `open_file`."""
    if not path.is_file() or not path.stat().st_size:
        raise StoreError(
            f"There is no file {path}, or it is empty. Expected a vector store that bankllm wrote; check the path "
            "(--store)."
        )
    with closing(_open(path, BUSY_TIMEOUT_S)) as db, store_errors(path):
        yield db


def _open(path: Path | None, wait_s: float, wanted: tuple[int, str] | None = None) -> sqlite3.Connection:
    with store_errors(path):
        db = sqlite3.connect(path or ":memory:", timeout=wait_s, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA mmap_size = 0")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA secure_delete = ON")
            _schema(db, path)
            _set_journal(db, path)
            with transaction(db):
                _check_size(db, path)
                if not _schema(db, path) and wanted:  # another process may have created the file meanwhile
                    _create(db)
                    db.executemany("INSERT INTO meta VALUES (?, ?)", zip(("dim", "embedder"), wanted, strict=True))
                if wanted:
                    db.execute("DELETE FROM meta WHERE false")  # fails if the file is read-only; BEGIN does not
                    check_vectors(db, path, *wanted)
        except BaseException:
            db.close()
            raise
    return db


@contextmanager
def store_errors(path: Path | None) -> Iterator[None]:
    """Convert SQLite's errors to a `StoreError` with advice."""
    try:
        yield
    except sqlite3.Error as error:
        message = f"The vector store {path or 'in memory'} failed: {error}. Data stored before is unchanged."
        raise StoreError(f"{message} {advice(error)}".rstrip()) from error


def read_meta(db: sqlite3.Connection) -> dict[str, str]:
    """Return the file's description of its vectors: `dim` and `embedder`."""
    return dict(db.execute("SELECT key, value FROM meta WHERE key IN ('dim', 'embedder')").fetchall())


def check_vectors(db: sqlite3.Connection, path: Path | None, dim: int, embedder_id: str) -> None:
    """Raises `StoreError` for vectors of another embedder; called in each transaction, because of `reindex`."""
    kept = read_meta(db)
    if (kept.get("embedder"), kept.get("dim")) != (embedder_id, str(dim)):
        raise StoreError(
            f"{path} holds vectors of {kept.get('embedder')} (dim {kept.get('dim')}), but this embedder is "
            f"{embedder_id} (dim {dim}); vectors of different embedders cannot be compared. Use the file's embedder or "
            "a new file, or re-embed the texts: bankllm memory reindex."
        )


def decode_vectors(blobs: Sequence[bytes], dim: int) -> np.ndarray:
    """Convert n stored vectors to (n, dim) float32. Raises `StoreError` if one of them has the wrong size."""
    if wrong := next((len(blob) for blob in blobs if len(blob) != FLOAT32.itemsize * dim), None):
        raise StoreError(
            f"Expected a stored vector of {FLOAT32.itemsize * dim} bytes (dim {dim}), found {wrong} bytes. The file is "
            "damaged: move it away and restore a backup."
        )
    return np.frombuffer(b"".join(blobs), FLOAT32).reshape(-1, dim).astype(np.float32, copy=False)


def _schema(db: sqlite3.Connection, path: Path | None) -> int:
    """Return the file's schema version; 0 for a new file."""
    application = db.execute("PRAGMA application_id").fetchone()[0]
    if application == 0 and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return 0
    if application != APPLICATION_ID:
        raise StoreError(f"{path} is another program's SQLite file. {advice('SQLITE_NOTADB')}")
    schema = int(db.execute("PRAGMA user_version").fetchone()[0])
    if schema != SCHEMA_VERSION:
        raise StoreError(
            f"{path} has schema {schema}, but this bankllm reads schema {SCHEMA_VERSION}. Use the bankllm that wrote "
            "it, or another path."
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


def _check_size(db: sqlite3.Connection, path: Path | None) -> None:
    """Raises `StoreError` for a file that ends within its last page; SQLite would read the missing bytes as zeros."""
    pages, size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    journal = db.execute("PRAGMA journal_mode").fetchone()[0]  # in WAL mode, pages may be only in the log
    if path is not None and journal != "wal" and 0 < path.stat().st_size < pages * size:
        raise StoreError(f"{path} ends within its last page. {advice('SQLITE_CORRUPT')}")


def _create(db: sqlite3.Connection) -> None:
    run_script(db, "store.sql")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
