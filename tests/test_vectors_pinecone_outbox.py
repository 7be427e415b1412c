"""What the file notes for Pinecone, in the transaction that changes a row, whoever writes."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from store_model import DIM, EMBEDDER, row

from bankllm.errors import StoreError
from bankllm.vectors.pinecone import outbox as outbox_module
from bankllm.vectors.pinecone.outbox import OutboxStore, sole_pusher
from bankllm.vectors.sqlite.store import SQLiteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "memory.sqlite"


def open_outbox(path: Path | None, target: str = "index") -> OutboxStore:
    return OutboxStore(path, DIM, EMBEDDER, target=target)


@pytest.fixture
def outbox(path: Path) -> Iterator[OutboxStore]:
    with closing(open_outbox(path)) as opened:
        yield opened


def told(outbox: OutboxStore) -> list[tuple[str, str, str | None]]:
    """(namespace, id, text) of what waits; None for a text that is gone."""
    return [(entry.namespace, entry.id, row and row.text) for entry, row in outbox.waiting()]


def push(outbox: OutboxStore) -> None:
    """As if Pinecone had taken all that waits."""
    for entry, found in outbox.waiting():
        outbox.removed([entry]) if found is None else outbox.upserted([entry])


def test_a_file_that_does_not_replicate_notes_nothing(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        store.upsert("CUST001", [row("a", 1)])
        store.upsert("CUST001", [row("a", 2)])
        store.delete("CUST001", ["a", "b"])
        store.delete("CUST001")
        assert store._db.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def test_an_entry_tells_what_a_row_is_now(outbox: OutboxStore) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    outbox.upsert("CUST002", [row("a", 3)])
    outbox.upsert("CUST001", [row("a", 4)])
    outbox.delete("CUST001", ["b"])
    assert told(outbox) == [("CUST001", "a", "text 4"), ("CUST001", "b", None), ("CUST002", "a", "text 3")]


def test_a_store_without_a_key_notes_too(path: Path, outbox: OutboxStore) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as plain:
        plain.upsert("CUST001", [row("a", 1)])
        plain.delete("CUST002")
    assert told(outbox) == [("CUST001", "a", "text 1"), ("CUST002", "", None)]


def test_a_removed_namespace_takes_its_entries_with_it_and_comes_before_what_follows(outbox: OutboxStore) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    outbox.upsert("CUST002", [row("x", 3)])
    outbox.delete("CUST001")
    outbox.upsert("CUST001", [row("c", 4)])
    outbox.delete("CUST001")
    outbox.upsert("CUST001", [row("a", 5)])
    assert told(outbox) == [("CUST002", "x", "text 3"), ("CUST001", "", None), ("CUST001", "a", "text 5")]


def test_ids_that_another_machine_wrote_are_removed_there(outbox: OutboxStore) -> None:
    outbox.delete("CUST001", ["theirs"])
    assert told(outbox) == [("CUST001", "theirs", None)]


def test_an_entry_that_changed_while_it_was_pushed_stays(outbox: OutboxStore) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    entries = [entry for entry, _ in outbox.waiting()]
    outbox.upsert("CUST001", [row("a", 3)])
    outbox.upserted(entries)
    assert told(outbox) == [("CUST001", "a", "text 3")]
    outbox.delete("CUST001")
    outbox.upserted(entries)
    assert told(outbox) == [("CUST001", "", None)]


def test_a_removal_hides_until_pinecone_is_known_to_be_that_far(
    outbox: OutboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "SETTLE_S", 0.0)
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    push(outbox)
    assert outbox.gone("CUST001").ids == set()
    outbox.delete("CUST001", ["a"])
    assert outbox.gone("CUST001").ids == {"a"}
    push(outbox)
    outbox.logged(7, "CUST001")
    time.sleep(0.01)
    assert (outbox.backlog().depth, outbox.gone("CUST001").ids, outbox.gone("CUST001").lsn) == (0, {"a"}, 7)
    outbox.indexed("CUST001", 6)
    assert outbox.gone("CUST001").ids == {"a"}
    outbox.indexed("CUST001", 7)
    assert outbox.gone("CUST001").ids == set()


def test_without_positions_in_the_log_it_hides_for_a_bounded_time(
    outbox: OutboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.delete("CUST001", ["a"])
    outbox.delete("CUST002")
    outbox.expire()
    push(outbox)
    outbox.logged(7, "CUST002")
    outbox.indexed("CUST002", 7)  # a removed namespace's log begins anew: its positions tell nothing
    outbox.expire()
    assert (outbox.gone("CUST001").ids, outbox.gone("CUST002").whole) == ({"a"}, True)
    monkeypatch.setattr(outbox_module, "HIDE_S", -1.0)
    outbox.expire()
    assert (outbox.gone("CUST001").ids, outbox.gone("CUST002").whole) == (set(), False)
    assert outbox._db.execute("SELECT count(*) FROM outbox").fetchone() == (0,)


def test_a_row_that_comes_back_is_hidden_no_more(outbox: OutboxStore) -> None:
    outbox.delete("CUST001", ["a"])
    push(outbox)
    outbox.upsert("CUST001", [row("a", 1)])
    assert (told(outbox), outbox.gone("CUST001").ids) == ([("CUST001", "a", "text 1")], set())


def test_what_was_refused_waits_for_a_change_or_for_another_process(outbox: OutboxStore) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    for entry, _ in outbox.waiting():
        outbox.parked(entry, "too large")
    assert (told(outbox), outbox.backlog().parked) == ([], 2)
    outbox.upsert("CUST001", [row("a", 3)])
    assert (told(outbox), outbox.backlog().parked) == ([("CUST001", "a", "text 3")], 1)
    outbox.unpark()
    assert (len(told(outbox)), outbox.backlog().parked) == (2, 0)


def test_the_backlog_tells_depth_and_age(outbox: OutboxStore) -> None:
    assert outbox.backlog() == (0, 0.0, 0)
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    time.sleep(0.05)
    outbox.upsert("CUST001", [row("a", 3)])
    backlog = outbox.backlog()
    assert backlog.depth == 2
    assert 0.05 <= backlog.oldest_s < 60


def test_rows_of_ours_that_pinecone_has_are_counted(outbox: OutboxStore) -> None:
    outbox.upsert("CUST001", [row("a", 1), row("b", 2)])
    assert outbox.counts("CUST001") == outbox.counts(None) == (2, 0)
    push(outbox)
    outbox.upsert("CUST001", [row("a", 3), row("c", 4)])
    assert outbox.counts("CUST001") == (3, 2)
    outbox.delete("CUST001", ["b"])
    assert outbox.counts("CUST001") == (2, 2)
    outbox.delete("CUST001")
    assert outbox.counts(None) == (0, 2)
    push(outbox)
    assert outbox.counts(None) == (0, 0)


def test_rows_from_before_are_queued_once(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as plain:
        plain.upsert("CUST001", [row("a", 1), row("b", 2)])
    with closing(open_outbox(path)) as outbox:
        assert told(outbox) == [("CUST001", "a", "text 1"), ("CUST001", "b", "text 2")]
        push(outbox)
    with closing(open_outbox(path)) as outbox:
        assert told(outbox) == []


def test_another_index_gets_all_rows_but_not_before_the_first_heard_of_removals(path: Path) -> None:
    with closing(open_outbox(path)) as outbox:
        outbox.upsert("CUST001", [row("a", 1)])
        push(outbox)
        outbox.delete("CUST002")
    with pytest.raises(StoreError, match=r"has 1 removals that Pinecone's index index has not been told of"):
        open_outbox(path, "second")
    with closing(open_outbox(path)) as outbox:
        push(outbox)
    with closing(open_outbox(path, "second")) as outbox:
        assert told(outbox) == [("CUST001", "a", "text 1")]


def test_a_write_that_fails_leaves_neither_row_nor_entry(outbox: OutboxStore) -> None:
    outbox._db.execute("CREATE TRIGGER fails BEFORE INSERT ON outbox BEGIN SELECT raise(ABORT, 'as told'); END")
    with pytest.raises(StoreError, match="as told"):
        outbox.upsert("CUST001", [row("a", 1)])
    outbox._db.execute("DROP TRIGGER fails")
    assert (outbox.count(), told(outbox)) == (0, [])


def test_a_file_of_schema_2_gets_an_outbox(path: Path) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as plain:
        plain.upsert("CUST001", [row("a", 1)])
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for name in ("row_written", "row_rewritten", "row_taken"):
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DROP VIEW removals")
        db.execute("DROP TABLE outbox")
        db.execute("PRAGMA user_version = 2")
    with closing(open_outbox(path)) as outbox:
        outbox.delete("CUST001", ["a"])
        assert told(outbox) == [("CUST001", "a", None)]


def test_one_pushes_at_a_time(path: Path) -> None:
    with sole_pusher(path) as first, sole_pusher(path) as second:
        assert (first, second) == (True, False)
    with sole_pusher(path) as again, sole_pusher(None) as in_memory:
        assert (again, in_memory) == (True, True)
