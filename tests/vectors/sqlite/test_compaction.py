"""After the store is closed, neither its file nor its journal files contain bytes of deleted rows."""

import logging
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bankllm.vectors.rows import Row, unit_vector
from bankllm.vectors.sqlite import connection, maintenance
from bankllm.vectors.sqlite import store as store_module
from bankllm.vectors.sqlite.store import SQLiteStore

DIM = 384
EMBEDDER = "test-embedder@0123"


@pytest.fixture(params=["truncate", "wal"])
def journal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for module in (connection, store_module):
        monkeypatch.setattr(module, "wal_is_safe", lambda version: request.param == "wal")
    return request.param


def bytes_beside(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(path.name + "*")))


def pieces(vector: np.ndarray) -> list[bytes]:
    kept = unit_vector(vector, DIM).tobytes()
    return [kept[start : start + 32] for start in range(0, len(kept), 192)]


def run_random_changes(store: SQLiteStore, seed: int) -> list[bytes]:
    """Write, replace and delete rows at random; return the byte strings that must not remain in the file."""
    generator, numbers = random.Random(seed), np.random.default_rng(seed)
    kept: dict[tuple[str, str], list[bytes]] = {}
    deleted: list[bytes] = []
    written = 0
    for _ in range(60):
        kind = generator.random()
        if kind < 0.6 or not kept:
            customer = f"CUST{generator.randrange(12):03}"
            rows = []
            for _ in range(generator.choice([1, 1, 5, 20])):
                again = bool(kept) and generator.random() < 0.4
                id_ = generator.choice(list(kept))[1] if again else f"{generator.getrandbits(64):016x}"
                written += 1
                secret = f"secret-{seed}-{written:06}-"
                text = secret + "x" * generator.choice([0, 30, 300, 3000, 6000])
                rows.append(Row(id_, text, numbers.normal(size=DIM).astype(np.float32)))
                deleted += kept.pop((customer, id_), [])
                kept[customer, id_] = [secret.encode(), *pieces(rows[-1].vector)]
            store.upsert(customer, rows)
            continue
        customer = generator.choice(list(kept))[0]
        own = [id_ for name, id_ in kept if name == customer]
        if kind < 0.9:
            own = generator.sample(own, generator.randint(1, len(own)))
        store.delete(customer, own if kind < 0.9 else None)
        for id_ in own:
            deleted += kept.pop((customer, id_))
    return deleted


@pytest.mark.parametrize("seed", range(3))
def test_no_byte_of_a_deleted_text_or_vector_remains(tmp_path: Path, journal: str, seed: int) -> None:
    path = tmp_path / "memory.sqlite"
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        deleted = run_random_changes(store, seed)
        kept = store.count()
    found = bytes_beside(path)
    assert len(deleted) > 500
    assert [piece for piece in deleted if piece in found] == []
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        assert store.count() == kept
        assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def plant(path: Path, secret: bytes) -> None:
    """Write bytes into the unused middle of a table page, where SQLite may leave copies of rows that it moved."""
    content = bytearray(path.read_bytes())
    for start in range(4096, len(content), 4096):
        cells, first_cell = (int.from_bytes(content[start + at : start + at + 2], "big") for at in (3, 5))
        gap = range(start + 8 + 2 * cells, start + first_cell)
        if content[start] == 13 and cells and len(gap) > len(secret):
            content[gap.start : gap.start + len(secret)] = secret
            path.write_bytes(content)
            return
    raise AssertionError("no page has enough unused space")


def test_copies_in_unused_space_are_erased_after_a_delete(tmp_path: Path) -> None:
    path = tmp_path / "memory.sqlite"
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [Row(id_, "t", np.ones(DIM)) for id_ in "abc"])
    plant(path, b"a copy of a row")
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST002", [Row("d", "t", np.ones(DIM))])
    assert b"a copy of a row" in path.read_bytes()
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.delete("CUST001", ["b"])
    assert b"a copy of a row" not in path.read_bytes()


def test_journal_files_contain_no_deleted_rows_after_a_delete_returns(tmp_path: Path, journal: str) -> None:
    path = tmp_path / "memory.sqlite"
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store, closing(SQLiteStore(path, DIM, EMBEDDER)) as other:
        vector = np.arange(1, DIM + 1)
        store.upsert("CUST001", [Row("a", "a very private sentence", vector)])
        assert len(other.search("CUST001", vector, 1)) == 1
        store.delete("CUST001")
        found = bytes_beside(path)
        assert not any(piece in found for piece in (b"a very private sentence", *pieces(vector)))


def test_a_file_is_compacted_only_after_a_delete_or_replacement(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [Row(id_, "t", np.ones(DIM)) for id_ in "ab"])
        assert not store.compact()
        store.upsert("CUST001", [Row("a", "replaced", np.ones(DIM))])
        assert store.compact()
        assert not store.compact()
        store.delete("CUST001", ["a"])
        assert store.compact()
        assert [match.id for match in store.search("CUST001", np.ones(DIM), 5)] == ["b"]


def test_a_large_file_is_not_compacted_on_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "memory.sqlite"
    monkeypatch.setattr(maintenance, "COMPACT_ON_CLOSE_BYTES", 4096)
    caplog.set_level(logging.INFO, "bankllm.vectors.sqlite.maintenance")
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [Row("a", "t", np.ones(DIM))])
        store.delete("CUST001")
    assert "run `bankllm memory compact`" in caplog.text
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        assert store.compact()


def test_a_locked_file_is_compacted_by_the_next_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "memory.sqlite"
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
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM meta WHERE key = 'removed'").fetchone() == (0,)
