"""Every deletion leaves a receipt: in the same transaction, without texts, in a chain that shows later changes."""

import hashlib
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bankllm.errors import ChainBroken, StoreError, UsageError
from bankllm.util.hash_chain import parse, verify
from bankllm.vectors.embedder import TTL_S
from bankllm.vectors.namespaces import Message
from bankllm.vectors.rows import Row
from bankllm.vectors.service import open_service
from bankllm.vectors.sqlite.deletion import CheckedReceipt, Receipt, check_receipt
from bankllm.vectors.sqlite.maintenance import back_up
from bankllm.vectors.sqlite.store import SQLiteStore
from tests.support.fake_embedder import fake_embedder
from tests.support.killed import run_until
from tests.support.pinecone_server import PineconeServer
from tests.support.store_model import (
    DIM,
    EMBEDDER,
    MODEL,
    bytes_beside,
    drain,
    open_replicated,
    row,
    sql,
    texts,
    vector_of,
)


def chain(path: Path) -> list[dict[str, Any]]:
    """The verified receipts of a file."""
    entries = [parse(entry) for (entry,) in sql(path, "SELECT entry FROM receipts ORDER BY number")]
    verify(entries)
    return entries


def as_json(receipt: Receipt) -> str:
    return json.dumps(asdict(receipt), indent=1)


def checked(path: Path, receipt: Receipt | str) -> CheckedReceipt:
    return check_receipt(path, receipt if isinstance(receipt, str) else as_json(receipt))


@pytest.fixture
def store(filled: Path) -> SQLiteStore:
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as opened:
        yield opened


def test_a_receipt_says_what_was_asked_and_deleted(store: SQLiteStore, filled: Path) -> None:
    some = store.delete("CUST001", ["m3", "never-there", "m2", "m3"], "cli")
    assert (some.namespace, some.asked, some.asked_by) == ("CUST001", "ids", "cli")
    assert (some.deleted, some.deleted_ids, some.unknown_ids) == (2, ["m2", "m3"], 1)
    everything = store.delete("CUST001")
    assert (everything.asked, everything.asked_by, everything.unknown_ids) == ("all", "library", 0)
    assert everything.deleted_ids == [id_ for id_ in MODEL if id_ not in ("m2", "m3")]
    nothing = store.delete("CUST001", [])
    assert (nothing.deleted, nothing.deleted_ids, nothing.unknown_ids) == (0, [], 0)
    assert [receipt.chain.number for receipt in (some, everything, nothing)] == [1, 2, 3]
    assert chain(filled) == [asdict(receipt) for receipt in (some, everything, nothing)]


def test_a_receipt_names_each_place_and_when_it_is_cleared(path: Path, journal: str) -> None:
    with closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        receipt = store.delete("CUST001")
    states = {place.name: place.state for place in receipt.places}
    assert states.pop("backups") == "out_of_reach"
    log = {"write_ahead_log": "cleared_later"} if journal == "wal" else {}
    later = {"other_processes": "cleared_later", "unused_pages": "cleared_later"}
    assert states == {"rows": "cleared", "this_process": "cleared", **later, **log}
    (until,) = (place.until for place in receipt.places if place.until)
    waited = datetime.fromisoformat(until) - datetime.fromisoformat(receipt.committed_at)
    assert waited.total_seconds() == TTL_S


def test_a_receipt_contains_no_text_and_no_digest_of_one(store: SQLiteStore, filled: Path) -> None:
    secret, reply = "my secret words", "a private reply"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    rows = [Row(id_, secret, vector_of(1), {"reply": reply}) for id_ in (digest[:32], "b")]
    store.upsert("collection news", rows)
    store.upsert("CUST001", [Row("m", secret, vector_of(1), {"reply": reply})])
    receipts = [store.delete("collection news", [digest[:32], digest]), store.delete("collection news")]
    assert [(receipt.deleted, receipt.deleted_ids, receipt.unknown_ids) for receipt in receipts] == [
        (1, None, 1),
        (1, None, 0),
    ]
    store.delete("CUST001")
    kept = "".join(entry for (entry,) in sql(filled, "SELECT entry FROM receipts"))
    for text in (secret, reply):
        for algorithm in ("md5", "sha1", "sha256", "sha512", "blake2b"):
            assert hashlib.new(algorithm, text.encode()).hexdigest()[:16] not in kept
        assert text not in kept


def test_after_a_deletion_no_word_of_the_texts_is_in_the_file_or_its_log(path: Path, journal: str) -> None:
    said = [f"the quokka {n} ate my sandwich in Zanzibar" for n in range(40)]
    with open_service(path, embedder=fake_embedder()) as service, open_service(path, embedder=fake_embedder()) as other:
        ids = service.for_user("CUST001").store_many([Message(text, "Nice animal.", "wildlife") for text in said])
        service.for_user("CUST002").store("the kangaroo", "", "")
        for each in (service, other):
            for mode in ("hybrid", "dense", "lexical"):
                assert len(each.for_user("CUST001").search("quokka sandwich", 5, mode=mode)) == 5
        assert service.for_user("CUST001").forget().deleted_ids == ids
        found = bytes_beside(path).lower()
        assert [word for word in (b"quokka", b"sandwich", b"zanzibar", b"animal", b"wildlife") if word in found] == []
        assert b"kangaroo" in found
        for mode in ("hybrid", "dense", "lexical"):
            assert other.for_user("CUST001").search("quokka sandwich", 5, mode=mode) == []


DELETE = f"""
from contextlib import closing
from bankllm.vectors.sqlite.store import SQLiteStore
with closing(SQLiteStore(path, {DIM}, {EMBEDDER!r})) as opened:
    opened.delete("CUST001")
"""


@pytest.mark.parametrize(
    ("moment", "times"), [("DELETE FROM rows", 1), ("INSERT INTO receipts", 1), ("COMMIT", 2), ("COMMIT", 3)]
)
def test_a_killed_deletion_has_a_receipt_for_exactly_the_deleted_rows(filled: Path, moment: str, times: int) -> None:
    killed = run_until(filled, DELETE, moment, times)
    assert killed.returncode == -9, killed.stderr
    entries = chain(filled)
    reported = [id_ for entry in entries for id_ in entry["deleted_ids"]]
    left = [id_ for (id_,) in sql(filled, "SELECT id FROM rows ORDER BY seq")]
    assert [*reported, *left] == list(MODEL)
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as store:
        assert store.delete("CUST001").deleted_ids == left
    assert len(chain(filled)) == len(entries) + 1


def test_concurrent_deletions_share_one_chain(filled: Path, journal: str) -> None:
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as one, closing(SQLiteStore(filled, DIM, EMBEDDER)) as other:
        with ThreadPoolExecutor(8) as pool:
            receipts = list(pool.map(lambda n: (one, other)[n % 2].delete("CUST001", [f"m{n}"]), range(1, 30)))
        assert sorted(receipt.chain.number for receipt in receipts) == list(range(1, 30))
        assert all(receipt.deleted == 1 for receipt in receipts)
    assert len(chain(filled)) == 29


def test_a_receipt_is_found_in_the_chain_in_any_layout_and_after_later_changes(
    store: SQLiteStore, filled: Path
) -> None:
    receipt = store.delete("CUST001", ["m1", "m2"])
    store.delete("CUST001")
    backup = filled.with_name("backup.sqlite")
    back_up(filled, backup)
    for path in (filled, backup):
        for text in (as_json(receipt), json.dumps(asdict(receipt), sort_keys=True), as_json(receipt) + "\n\n"):
            assert checked(path, text)[1:] == (2, 0, 0)


def test_a_receipt_of_another_file_is_refused(store: SQLiteStore, filled: Path, tmp_path: Path) -> None:
    receipt = store.delete("CUST001")
    with closing(SQLiteStore(tmp_path / "other.sqlite", DIM, EMBEDDER)) as other:
        with pytest.raises(ChainBroken, match="ends with entry 0, but entry 1 was kept"):
            checked(tmp_path / "other.sqlite", receipt)
        other.delete("CUST001")
    with pytest.raises(ChainBroken, match="entry 1 is not the one that was kept"):
        checked(tmp_path / "other.sqlite", receipt)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("DELETE FROM receipts WHERE number = 3", "ends with entry 2, but entry 3 was kept"),
        ("DELETE FROM receipts WHERE number = 1", "entry 2 does not follow entry 0"),
        ("UPDATE receipts SET entry = replace(entry, 'm1', 'm9') WHERE number = 1", "Entry 1 .* was changed"),
        ("UPDATE receipts SET entry = substr(entry, 1, 50) WHERE number = 2", "cut off"),
    ],
)
def test_a_changed_chain_is_detected_and_prevents_no_deletion(filled: Path, damage: str, message: str) -> None:
    with closing(SQLiteStore(filled, DIM, EMBEDDER)) as store:
        receipts = [store.delete("CUST001", [id_]) for id_ in ("m1", "m2", "m3")]
        sql(filled, damage)
        with pytest.raises(ChainBroken, match=message):
            checked(filled, receipts[-1])
        assert store.delete("CUST001").deleted == len(MODEL) - 3
        with pytest.raises(ChainBroken):
            checked(filled, receipts[-1])


def test_rows_that_a_backup_brought_back_are_counted(store: SQLiteStore, filled: Path) -> None:
    receipt = store.delete("CUST001", ["m1", "m2"])
    store.upsert("CUST001", [row("m1", 1)])
    store.upsert("CUST002", [row("m2", 2)])
    assert checked(filled, receipt).restored == 1


def test_a_store_that_another_process_has_locked_keeps_its_rows_and_writes_no_receipt(filled: Path) -> None:
    with closing(SQLiteStore(filled, DIM, EMBEDDER, wait_s=0.05)) as store:
        with closing(sqlite3.connect(filled, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreError, match=r"locked.*stop that process, or try again"):
                store.delete("CUST001")
            other.execute("ROLLBACK")
        assert (store.count("CUST001"), chain(filled)) == (len(MODEL), [])


@pytest.mark.parametrize("id_", ["", "é", "a\0b", "x" * 513, "\ud83d", 7, None])
def test_an_id_that_no_row_can_have_is_refused(store: SQLiteStore, filled: Path, id_: Any) -> None:
    with pytest.raises(UsageError, match="Expected a row id of 1–512 ASCII characters"):
        store.delete("CUST001", ["m1", id_])
    with pytest.raises(UsageError, match="Expected a list of ids, got one str"):
        store.delete("CUST001", "m1")
    assert (store.count("CUST001"), chain(filled)) == (len(MODEL), [])


def test_a_receipt_says_what_pinecone_has_accepted(server: PineconeServer, path: Path) -> None:
    server.failing = 503
    with closing(open_replicated(server, path)) as store:
        store.upsert("CUST001", [row("a", 1), row("b", 2), row("c", 3)])
        some = store.delete("CUST001", ["a", "of-another-machine"])
        everything = store.delete("CUST001")
        assert (len(some.outbox), len(everything.outbox)) == (2, 1)
        for receipt in (some, everything):
            states = {place.name: place.state for place in receipt.places}
            assert states["pinecone"] == states["other_machines"] == "out_of_reach"
        # The entry for all rows replaces the entries for single rows.
        assert (checked(path, some).waiting, checked(path, everything).waiting) == (0, 1)
        server.failing = 0
        drain(store)
        assert checked(path, everything).waiting == 0
        assert texts(store, "CUST001") == []
