"""Opening a store's file: rejected files stay unchanged, settings are durable."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bankllm.errors import StoreError
from bankllm.vectors.sqlite.file import open_file, wal_is_safe
from tests.support.store_model import DIM, EMBEDDER, sql


def assert_refused(path: Path, message: str, dim: int = DIM, embedder_id: str = EMBEDDER) -> None:
    before = path.read_bytes()
    with pytest.raises(StoreError, match=message):
        open_file(path, dim, embedder_id)
    assert path.read_bytes() == before


def test_files_of_other_programs_and_of_other_schemas(filled: Path, tmp_path: Path) -> None:
    notes, other = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    notes.write_text("not a database, but a text file that is longer than a SQLite header\n" * 20)
    assert_refused(notes, "file is not a database.*Expected a file that bankllm wrote")
    sql(other, "CREATE TABLE theirs (x)")
    assert_refused(other, "another program's SQLite file")
    sql(filled, "PRAGMA user_version = 6")
    assert_refused(filled, "has schema 6, but this bankllm reads schema 5. Use the bankllm that wrote it")
    sql(filled, "PRAGMA user_version = 4")
    assert_refused(filled, "has schema 4, but this bankllm reads schema 5")


def test_another_embedders_vectors(filled: Path) -> None:
    assert_refused(
        filled, "holds vectors of test-embedder@0123.*but this embedder is other@4567", embedder_id="other@4567"
    )
    assert_refused(filled, r"\(dim 8\), but this embedder is test-embedder@0123 \(dim 9\)", dim=9)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"unable to open database file.*a folder that exists"):
        open_file(tmp_path / "nowhere" / "memory.sqlite", DIM, EMBEDDER)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes read-only files too")
def test_a_read_only_file(filled: Path) -> None:
    filled.chmod(0o444)
    assert_refused(filled, "readonly.*change the permissions")


def test_all_durability_settings_are_set(filled: Path) -> None:
    with closing(open_file(filled, DIM, EMBEDDER)) as db:
        settings = {
            name: db.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "synchronous", "mmap_size")
        }
    wanted = "wal" if wal_is_safe(sqlite3.sqlite_version_info) else "truncate"
    assert settings == {"journal_mode": (wanted,), "synchronous": (2,), "mmap_size": (0,)}


def test_wal_is_used_only_in_versions_with_the_fix() -> None:
    broken = [(3, 40, 1), (3, 44, 5), (3, 45, 0), (3, 50, 6), (3, 51, 2)]
    fixed = [(3, 44, 6), (3, 50, 7), (3, 51, 3), (3, 52, 0)]
    assert [version for version in (*broken, *fixed) if wal_is_safe(version)] == fixed
