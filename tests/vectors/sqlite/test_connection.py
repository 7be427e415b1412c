"""Opening a store's file: rejected files stay unchanged, older schemas are migrated, settings are durable."""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import StoreError
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.connection import open_file, transaction, wal_is_safe
from bankllm.vectors.sqlite.store import SQLiteStore

DIM = 8
EMBEDDER = "test-embedder@0123"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a store's file with 50 rows."""
    path = tmp_path / "memory.sqlite"
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [Row(str(i), "text " * 100, np.ones(DIM)) for i in range(50)])
    return path


def assert_refused(path: Path, message: str, dim: int = DIM, embedder_id: str = EMBEDDER) -> None:
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        open_file(path, dim, embedder_id)
    assert path.read_bytes() == before


def test_a_file_that_is_not_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but a text file that is longer than a SQLite header\n" * 20)
    assert_refused(path, "file is not a database.*Expected a file that bankllm wrote")


def test_another_programs_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
    assert_refused(path, "another program's SQLite file")


def test_a_truncated_file(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    assert_refused(path, "malformed.*restore a backup")


def test_a_file_of_a_newer_schema(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 4")
    assert_refused(path, "has schema 4, but this bankllm reads schemas 1 to 3. Upgrade bankllm")


VERSION_1 = """
PRAGMA application_id = 1112950083;
PRAGMA user_version = 1;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE rows (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    vector BLOB NOT NULL,
    text TEXT NOT NULL,
    metadata TEXT NOT NULL,
    UNIQUE (namespace, id)
);
INSERT INTO meta VALUES ('dim', '8'), ('embedder', 'test-embedder@0123');
"""


@pytest.fixture
def old_path(tmp_path: Path) -> Path:
    """Return a file with schema version 1 and three rows of two customers."""
    path = tmp_path / "old.sqlite"
    vector = np.eye(DIM, dtype="<f4")[0].tobytes()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {'wal' if wal_is_safe(sqlite3.sqlite_version_info) else 'truncate'}")
        db.executescript(VERSION_1)
        db.executemany(
            "INSERT INTO rows (namespace, id, created_at, vector, text, metadata) VALUES (?, ?, '2026', ?, ?, '{}')",
            [("CUST001", "a", vector, "first"), ("CUST002", "a", vector, "other"), ("CUST001", "b", vector, "second")],
        )
        db.commit()
    return path


def test_a_file_of_schema_1_keeps_its_rows(old_path: Path) -> None:
    query = np.eye(DIM)[0]
    with closing(SQLiteStore(old_path, DIM, EMBEDDER)) as store:
        assert [match.text for match in store.search("CUST001", query, 5)] == ["first", "second"]
        store.upsert("CUST001", [Row("c", "third", query)])
        store.upsert("CUST001", [Row("a", "replaced", -query)])
        store.delete("CUST001", ["b"])
        assert [match.text for match in store.search("CUST001", query, 5)] == ["third", "replaced"]
    with closing(SQLiteStore(old_path, DIM, EMBEDDER)) as again:
        assert [row.text for row in again.export("CUST001")] == ["replaced", "third"]
        assert again.count() == 3
        assert again._db.execute("PRAGMA user_version").fetchone()[0] == 3


def test_a_new_file_and_a_migrated_one_have_the_same_schema(path: Path, old_path: Path) -> None:
    schemas = []
    for file in (path, old_path):
        with closing(open_file(file, DIM, EMBEDDER)) as db:
            found = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
            schemas.append([(kind, name, " ".join((sql or "").split())) for kind, name, sql in found])
    assert schemas[0] == schemas[1]


def test_writes_of_a_process_with_schema_1_are_found(old_path: Path) -> None:
    query = np.eye(DIM)[0]
    with (
        closing(sqlite3.connect(old_path, isolation_level=None)) as old,
        closing(SQLiteStore(old_path, DIM, EMBEDDER)) as store,
    ):
        assert len(store.search("CUST001", query, 5)) == 2
        old.execute("DELETE FROM rows WHERE id = 'b'")
        assert [match.id for match in store.search("CUST001", query, 5)] == ["a"]
        old.execute("UPDATE rows SET vector = ? WHERE id = 'a'", ((-query).astype("<f4").tobytes(),))
        assert store.search("CUST001", query, 5)[0].score == -1


def test_a_file_of_schema_1_with_another_embedders_vectors_is_not_migrated(old_path: Path) -> None:
    assert_refused(old_path, "holds vectors of test-embedder@0123", embedder_id="other@4567")


def test_the_name_of_a_deleted_customer_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        for name in ("forgotten-at-once", "forgotten-by-id"):
            for text in ("old", "replaced"):
                store.upsert(name, [Row("a", text, np.ones(DIM)), Row("b", text, np.ones(DIM))])
        store.delete("forgotten-by-id", ["a"])
        store.delete("forgotten-by-id", ["b"])
        store.delete("forgotten-at-once")
    assert b"forgotten" not in path.read_bytes()


def test_another_embedders_vectors(path: Path) -> None:
    assert_refused(
        path, "holds vectors of test-embedder@0123.*but this embedder is other@4567", embedder_id="other@4567"
    )
    assert_refused(path, r"\(dim 8\), but this embedder is test-embedder@0123 \(dim 9\)", dim=9)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"unable to open database file.*a folder that exists"):
        open_file(tmp_path / "nowhere" / "memory.sqlite", DIM, EMBEDDER)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes read-only files too")
def test_a_read_only_file(path: Path) -> None:
    path.chmod(0o444)
    assert_refused(path, "readonly.*change the permissions")


def test_a_store_that_becomes_read_only_keeps_its_rows(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store._db.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreError, match=r"readonly.*change the permissions"):
            store.upsert("CUST001", [Row("late", "t", np.ones(DIM))])
        assert store.count() == 50


def test_an_interrupted_transaction_is_rolled_back(path: Path) -> None:
    with closing(open_file(path, DIM, EMBEDDER)) as db:
        with suppress(KeyboardInterrupt), transaction(db, "IMMEDIATE"):
            db.execute("DELETE FROM rows")
            raise KeyboardInterrupt
        assert db.execute("SELECT count(*) FROM rows").fetchone()[0] == 50


def test_all_durability_settings_are_set(path: Path) -> None:
    with closing(open_file(path, DIM, EMBEDDER)) as db:
        settings = {
            name: db.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous", "mmap_size")
        }
    wanted = "wal" if wal_is_safe(sqlite3.sqlite_version_info) else "truncate"
    assert settings == {"journal_mode": (wanted,), "synchronous": (2,), "mmap_size": (0,)}


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
    ],
)
def test_wal_is_used_only_in_versions_with_the_fix(version: tuple[int, int, int], safe: bool) -> None:
    assert wal_is_safe(version) is safe
