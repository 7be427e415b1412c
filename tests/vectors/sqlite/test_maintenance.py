"""Backups, and files that contain no bytes of deleted rows."""

import logging
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import StoreError
from bankllm.vectors.rows import Row, unit_vectors
from bankllm.vectors.sqlite import maintenance
from bankllm.vectors.sqlite.maintenance import back_up, compact
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support import store_model
from tests.support.store_model import EMBEDDER, MODEL, bytes_beside, expected_texts, is_intact, row, sql, texts

DIM = 384


def no_copies(folder: Path) -> bool:
    return not [file.name for file in folder.iterdir() if "copy" in file.name]


def test_a_copy_is_a_usable_store_in_a_single_file(filled: Path, journal: str) -> None:
    target = filled.with_name("copy.sqlite")
    with closing(SQLiteStore(filled, store_model.DIM, EMBEDDER)) as store:  # in use during the copy
        back_up(filled, target)
        store.upsert("CUST001", [row("late", 900)])
        assert store.count() == len(MODEL) + 1
    assert [file.name for file in target.parent.iterdir() if "copy" in file.name] == [target.name]
    assert sql(target, "PRAGMA journal_mode") == [("delete",)]
    assert is_intact(target)
    with closing(SQLiteStore(target, store_model.DIM, EMBEDDER)) as copy:
        assert texts(copy, "CUST001") == expected_texts(MODEL)
        copy.upsert("CUST001", [row("later", 1)])


def test_an_existing_file_is_never_replaced(filled: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    target.write_text("mine")
    with pytest.raises(StoreError, match=r"already exists\. A backup never replaces a file"):
        back_up(filled, target)
    assert target.read_text() == "mine"
    with pytest.raises(StoreError, match="unable to open database"):
        back_up(filled, tmp_path / "nowhere" / "copy.sqlite")
    with pytest.raises(StoreError, match="There is no file"):
        back_up(tmp_path / "nothing.sqlite", tmp_path / "other.sqlite")
    assert not (tmp_path / "other.sqlite").exists()


def test_a_damaged_store_is_not_copied(filled: Path, tmp_path: Path) -> None:
    with filled.open("r+b") as file:
        file.seek(filled.stat().st_size // 4096 // 2 * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreError, match="damaged"):
        back_up(filled, tmp_path / "copy.sqlite")
    assert no_copies(tmp_path)


def test_a_failed_backup_leaves_no_copy(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space left"):
        back_up(filled, tmp_path / "copy.sqlite")
    assert no_copies(tmp_path)


def pieces(vector: np.ndarray) -> list[bytes]:
    kept = unit_vectors([vector], DIM).tobytes()
    return [kept[start : start + 32] for start in range(0, len(kept), 192)]


def run_random_changes(store: SQLiteStore, seed: int) -> list[bytes]:
    """Write, replace and delete rows at random; return the byte strings that must not remain in the file."""
    generator, numbers = random.Random(seed), np.random.default_rng(seed)
    kept: dict[tuple[str, str], list[bytes]] = {}
    deleted: list[bytes] = []
    for step in range(60):
        customer = f"CUST{generator.randrange(8):03}"
        own = [id_ for name, id_ in kept if name == customer]
        if own and generator.random() < 0.4:
            some = generator.sample(own, generator.randint(1, len(own)))
            store.delete(customer, None if len(some) == len(own) else some)
            deleted += [piece for id_ in some for piece in kept.pop((customer, id_))]
            continue
        rows = []
        for number in range(generator.choice([1, 1, 5, 20])):
            secret = f"secret-{seed}-{step}-{number}-"
            text = secret + "x" * generator.choice([0, 30, 300, 3000, 6000])
            rows.append(Row(f"m{generator.randrange(40)}", text, numbers.normal(size=DIM).astype(np.float32)))
            deleted += kept.pop((customer, rows[-1].id), [])
            kept[customer, rows[-1].id] = [secret.encode(), *pieces(rows[-1].vector)]
        store.upsert(customer, rows)
    return deleted


@pytest.mark.parametrize("seed", range(3))
def test_no_byte_of_a_deleted_text_or_vector_remains(path: Path, journal: str, seed: int) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        deleted = run_random_changes(store, seed)
        kept = store.count()
    found = bytes_beside(path)
    assert len(deleted) > 500
    assert [piece for piece in deleted if piece in found] == []
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        assert store.count() == kept
    assert is_intact(path)


def test_a_file_is_compacted_only_after_a_delete_or_replacement(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [Row(id_, "t", np.ones(DIM)) for id_ in "ab"])
        assert not compact(path)
        store.upsert("CUST001", [Row("a", "replaced", np.ones(DIM))])
        assert compact(path)
        assert not compact(path)
        store.delete("CUST001", ["a"])
        assert compact(path)
        assert [match.id for match in store.search("CUST001", np.ones(DIM), 5)] == ["b"]


def test_a_large_file_is_not_compacted_on_close(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "COMPACT_ON_CLOSE_BYTES", 4096)
    caplog.set_level(logging.INFO, "bankllm.vectors.sqlite.maintenance")
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [Row("a", "t", np.ones(DIM))])
        store.delete("CUST001")
    assert "run `bankllm memory compact`" in caplog.text
    assert compact(path)


def test_a_locked_file_is_compacted_by_the_next_close(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "CLOSE_WAIT_MS", 10)
    store = SQLiteStore(path, DIM, EMBEDDER)
    store.upsert("CUST001", [Row("a", "t", np.ones(DIM))])
    store.delete("CUST001")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store.close()
        assert "could not be compacted" in caplog.text
    again = SQLiteStore(path, DIM, EMBEDDER)
    again.close()
    assert sql(path, "SELECT count(*) FROM meta WHERE key = 'removed'") == [(0,)]
