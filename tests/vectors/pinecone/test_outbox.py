"""The outbox in the store's file: entries are written in the same transaction as the row, by all writers."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bankllm.errors import StoreError
from bankllm.vectors.pinecone import outbox as outbox_module
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.store_model import DIM, EMBEDDER, row, sql


def open_outbox(path: Path | None, target: str = "index") -> OutboxStore:
    return OutboxStore(path, DIM, EMBEDDER, target=target)


@pytest.fixture
def outbox(path: Path) -> Iterator[OutboxStore]:
    with closing(open_outbox(path)) as opened:
        yield opened


def queued(outbox: OutboxStore) -> list[tuple[str, str, str | None]]:
    """Return (namespace, id, text) of the queued entries; the text of a deleted row is None."""
    return [(entry.namespace, entry.id, row and row.text) for entry, row in outbox.next_entries()]


def push(outbox: OutboxStore) -> None:
    """Mark all queued entries as accepted by Pinecone."""
    for entry, found in outbox.next_entries():
        outbox.mark_deleted([entry]) if found is None else outbox.mark_upserted([entry])


def test_a_file_that_is_not_replicated_has_no_outbox_entries(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [row("a", 1)])
        store.upsert("CUST001", [row("a", 2)])
        store.delete("CUST001", ["a", "b"])
        store.delete("CUST001")
    assert sql(path, "SELECT count(*) FROM outbox") == [(0,)]


def test_an_entry_has_the_current_state_of_its_row(outbox: OutboxStore) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    outbox.upsert("CUST002", [row("a", 3)])
    outbox.upsert("CUST001", [row("a", 4)])
    outbox.delete("CUST001", ["b"])
    assert queued(outbox) == [("CUST001", "a", "text 4"), ("CUST001", "b", None), ("CUST002", "a", "text 3")]
    assert (outbox.own_ids("CUST001"), outbox.own_ids("CUST001", ["b"])) == ({"a"}, set())


def test_writes_of_a_plain_store_and_deletes_of_unknown_rows_are_queued(path: Path, outbox: OutboxStore) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as plain:
        plain.upsert("CUST001", [row("a", 1)])
        plain.delete("CUST002")
    outbox.delete("CUST001", ["theirs"])
    assert queued(outbox) == [("CUST001", "a", "text 1"), ("CUST002", "", None), ("CUST001", "theirs", None)]


def test_deleting_a_namespace_replaces_its_entries_and_precedes_later_writes(outbox: OutboxStore) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    outbox.upsert("CUST002", [row("x", 3)])
    outbox.delete("CUST001")
    outbox.upsert("CUST001", [row("c", 4)])
    outbox.delete("CUST001")
    outbox.upsert("CUST001", [row("a", 5)])
    assert queued(outbox) == [("CUST002", "x", "text 3"), ("CUST001", "", None), ("CUST001", "a", "text 5")]


def test_an_entry_that_changes_during_its_push_stays_queued(outbox: OutboxStore) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    entries = [entry for entry, _ in outbox.next_entries()]
    outbox.upsert("CUST001", [row("a", 3)])
    outbox.mark_upserted(entries)
    assert queued(outbox) == [("CUST001", "a", "text 3")]
    outbox.delete("CUST001")
    outbox.mark_upserted(entries)
    assert queued(outbox) == [("CUST001", "", None)]


def test_a_pushed_delete_is_hidden_for_a_limited_time(
    outbox: OutboxStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    push(outbox)
    assert outbox.pending_deletes("CUST001").ids == set()
    outbox.delete("CUST001", ["a"])
    outbox.delete("CUST002")
    assert outbox.pending_deletes("CUST001").ids == {"a"}
    outbox.expire()
    push(outbox)
    outbox.expire()
    assert outbox.backlog()[0] == 0
    assert (outbox.pending_deletes("CUST001").ids, outbox.pending_deletes("CUST002").whole_namespace) == ({"a"}, True)
    monkeypatch.setattr(outbox_module, "HIDE_S", -1.0)
    outbox.expire()
    assert (outbox.pending_deletes("CUST001").ids, outbox.pending_deletes("CUST002").whole_namespace) == (set(), False)
    assert sql(path, "SELECT count(*) FROM outbox") == [(0,)]


def test_a_parked_entry_is_queued_again_after_a_change_or_at_the_next_opening(outbox: OutboxStore, path: Path) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    for entry, _ in outbox.next_entries():
        outbox.park(entry, "too large")
    assert (queued(outbox), outbox.backlog()[2]) == ([], 2)
    outbox.upsert("CUST001", [row("a", 3)])
    assert (queued(outbox), outbox.backlog()[2]) == ([("CUST001", "a", "text 3")], 1)
    with closing(open_outbox(path)) as again:
        assert (len(queued(again)), again.backlog()[2]) == (2, 0)


def test_existing_rows_are_queued_once(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as plain:
        plain.upsert("CUST001", [row("a", 1), row("b", 2)])
    with closing(open_outbox(path)) as outbox:
        assert queued(outbox) == [("CUST001", "a", "text 1"), ("CUST001", "b", "text 2")]
        push(outbox)
    with closing(open_outbox(path)) as outbox:
        assert queued(outbox) == []


def test_another_index_gets_all_rows_after_all_deletes_were_pushed_to_the_first(path: Path) -> None:
    with closing(open_outbox(path)) as outbox:
        outbox.upsert("CUST001", [row("a", 1)])
        push(outbox)
        outbox.delete("CUST002")
    with pytest.raises(StoreError, match=r"has 1 deletes that were not pushed to Pinecone's index index"):
        open_outbox(path, "second")
    with closing(open_outbox(path)) as outbox:
        push(outbox)
    with closing(open_outbox(path, "second")) as outbox:
        assert queued(outbox) == [("CUST001", "a", "text 1")]


def test_a_failed_write_leaves_neither_row_nor_entry(outbox: OutboxStore, path: Path) -> None:
    sql(path, "CREATE TRIGGER fails BEFORE INSERT ON outbox BEGIN SELECT raise(ABORT, 'test error'); END")
    with pytest.raises(StoreError, match="test error"):
        outbox.upsert("CUST001", [row("a", 1)])
    sql(path, "DROP TRIGGER fails")
    assert (outbox.count(), queued(outbox)) == (0, [])
