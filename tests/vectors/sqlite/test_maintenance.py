"""Backups of a store, made while other threads write."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import pytest

from bankllm.errors import StoreError
from bankllm.vectors.sqlite import connection
from bankllm.vectors.sqlite import maintenance as backup_module
from bankllm.vectors.sqlite import store as store_module
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, expected_texts, row, texts

MODEL = {f"m{seed}": seed for seed in range(1, 200)}


@pytest.fixture(params=["truncate", "wal"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteStore]:
    for module in (connection, store_module):
        monkeypatch.setattr(module, "wal_is_safe", lambda version: request.param == "wal")
    with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER)) as opened:
        opened.upsert("CUST001", [row(id_, seed) for id_, seed in MODEL.items()])
        yield opened


def assert_whole(path: Path, wanted: list[str]) -> None:
    assert sorted(file.name for file in path.parent.iterdir() if file.name.startswith(("copy", ".copy"))) == [path.name]
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as copy:
        assert texts(copy, "CUST001") == wanted
        assert copy._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        copy.upsert("CUST001", [row("later", 1)])


def test_a_copy_is_a_usable_store(store: SQLiteStore, tmp_path: Path) -> None:
    store.backup(tmp_path / "copy.sqlite")
    store.upsert("CUST001", [row("late", 900)])
    assert_whole(tmp_path / "copy.sqlite", expected_texts(MODEL))
    assert store.count() == len(MODEL) + 1


def test_an_in_memory_store_can_be_backed_up(tmp_path: Path) -> None:
    with closing(SQLiteStore(None, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [row(id_, seed) for id_, seed in MODEL.items()])
        store.backup(tmp_path / "copy.sqlite")
    assert_whole(tmp_path / "copy.sqlite", expected_texts(MODEL))


def test_an_existing_file_is_never_replaced(store: SQLiteStore, tmp_path: Path) -> None:
    target = tmp_path / "copy.sqlite"
    target.write_text("mine")
    with pytest.raises(StoreError, match=r"already exists\. A backup never replaces a file"):
        store.backup(target)
    assert target.read_text() == "mine"
    with pytest.raises(StoreError, match="cannot be written: No such file"):
        store.backup(tmp_path / "nowhere" / "copy.sqlite")
    with pytest.raises(StoreError, match="There is no file"):
        backup_module.copy_file(tmp_path / "nothing.sqlite", tmp_path / "other.sqlite")
    assert not (tmp_path / "other.sqlite").exists()


def test_a_damaged_store_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [row(id_, seed) for id_, seed in MODEL.items()])
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4096 // 2 * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreError, match="damaged"):
        backup_module.copy_file(path, tmp_path / "copy.sqlite")
    assert [file.name for file in tmp_path.iterdir() if "copy" in file.name] == []


def test_a_copy_made_during_writes_is_consistent(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_module, "STEP_PAGES", 1)
    done, rounds = Event(), 0

    def write() -> None:
        nonlocal rounds
        while not done.is_set():
            rounds += 1
            store.upsert("CUST001", [row("one", 1000 + rounds), row("other", 1000 + rounds)])

    writer = Thread(target=write)
    writer.start()
    while rounds < 2:
        pass
    store.backup(tmp_path / "copy.sqlite")
    done.set()
    writer.join()
    with closing(SQLiteStore(tmp_path / "copy.sqlite", DIM, EMBEDDER)) as copy:
        kept = {row.id: row.text for row in copy.export("CUST001")}
    assert kept["one"] == kept["other"]
    assert kept.items() >= {id_: f"text {seed}" for id_, seed in MODEL.items()}.items()


FULL = """
import resource, signal, sys
from pathlib import Path
from bankllm.errors import StoreError
from bankllm.vectors.sqlite.maintenance import copy_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    copy_file(Path(sys.argv[1]), Path(sys.argv[2]))
except StoreError as error:
    print(error)
"""


def test_a_full_disk_leaves_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [row(id_, seed) for id_, seed in MODEL.items()])
    arguments = [str(path), str(tmp_path / "copy.sqlite")]
    child = subprocess.run([sys.executable, "-c", FULL, *arguments], capture_output=True, text=True, check=True)
    assert "copy.sqlite failed:" in child.stdout
    assert [file.name for file in tmp_path.iterdir() if "copy" in file.name] == []


def test_a_copy_is_a_single_file_in_rollback_mode(store: SQLiteStore, tmp_path: Path) -> None:
    store.backup(tmp_path / "copy.sqlite")
    with closing(sqlite3.connect(tmp_path / "copy.sqlite")) as copy:
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
