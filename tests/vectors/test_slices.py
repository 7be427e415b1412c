"""Long deletes and exports run in slices: other calls run in between, and rows being deleted are not found."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bankllm.errors import StoreError
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore

DIM, EMBEDDER = 8, "test-embedder@0123"
QUERY = np.ones(DIM, np.float32)


def rows(names: Sequence[str]) -> list[Row]:
    return [Row(name, name, QUERY + np.eye(DIM, dtype=np.float32)[i % DIM]) for i, name in enumerate(names)]


@pytest.fixture(autouse=True)
def slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bankllm.vectors.sqlite.store.SLICE_ROWS", 3)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER)) as store:
        store.upsert("CUST001", rows([f"old {i}" for i in range(10)]))
        store.upsert("CUST002", rows(["other"]))
        yield store


def before_each_write(monkeypatch: pytest.MonkeyPatch, store: SQLiteStore, do: Callable[[int], None]) -> list[str]:
    """Call `do` with its number before each commit except inserts; return the list of their SQL, which grows."""
    write, sqls = store._write, list[str]()

    def spy(sql: str, values: Sequence[tuple[object, ...]]) -> None:
        if "INSERT INTO rows" not in sql:
            sqls.append(sql)
            do(len(sqls))
        write(sql, values)

    monkeypatch.setattr(store, "_write", spy)
    return sqls


def found(store: SQLiteStore, namespace: str = "CUST001") -> list[str]:
    return sorted(match.text for match in store.search(namespace, QUERY, 100))


def test_between_slices_other_calls_run_and_deleted_rows_are_not_found(
    store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(found(store)) == 10
    counts: list[int] = []

    def chat(number: int) -> None:
        counts.append(store.count("CUST001"))
        assert found(store, "CUST002") == ["other"]
        assert found(store) == [f"new {i}" for i in range(1, number)]
        store.upsert("CUST001", rows([f"new {number}"]))
        assert found(store) == [f"new {i}" for i in range(1, number + 1)]

    sqls = before_each_write(monkeypatch, store, chat)
    store.delete("CUST001")
    assert counts == [10, 8, 6, 4]  # each slice deletes three rows, and one is added in between
    assert len(sqls) == 4
    assert (found(store), store.count("CUST001"), found(store, "CUST002")) == ([], 0, ["other"])
    store.upsert("CUST001", rows(["later"]))
    assert found(store) == ["later"]


def test_rows_left_by_a_failed_delete_are_found_again(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(number: int) -> None:
        found(store)
        if number == 3:
            raise StoreError("the disk is full")

    before_each_write(monkeypatch, store, fail)
    with pytest.raises(StoreError, match="disk is full"):
        store.delete("CUST001")
    assert found(store) == sorted(row.text for row in store.export("CUST001")) == [f"old {i}" for i in range(6, 10)]


def test_many_ids_are_deleted_in_slices(store: SQLiteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sqls = before_each_write(monkeypatch, store, lambda number: None)
    store.delete("CUST001", [f"old {i}" for i in range(7)])
    assert len(sqls) == 3
    assert found(store) == ["old 7", "old 8", "old 9"]


@pytest.mark.parametrize("count", [0, 2, 3, 4, 9, 10])
def test_an_export_contains_every_row_once_in_order(tmp_path: Path, count: int) -> None:
    with closing(SQLiteStore(tmp_path / "memory.sqlite", DIM, EMBEDDER)) as store:
        names = [f"{i * 7 % 11}" for i in range(count)]
        store.upsert("CUST001", rows(names))
        assert [row.id for row in store.export("CUST001")] == names


def test_deleting_a_replicated_namespace_queues_one_entry(tmp_path: Path) -> None:
    with closing(OutboxStore(tmp_path / "memory.sqlite", DIM, EMBEDDER, target="index")) as store:
        store.upsert("CUST001", rows([f"old {i}" for i in range(10)]))
        store.mark_upserted([entry for entry, _ in store.next_entries()])
        assert store.counts("CUST001") == (10, 10)
        store.delete("CUST001")
        assert [(entry.namespace, entry.id) for entry, _ in store.next_entries()] == [("CUST001", "")]
        assert store.counts("CUST001") == (0, 10)
        assert store.pending_deletes("CUST001").whole_namespace
