"""Delete rows and write the receipt in the same transaction. The receipts of a file form a hash chain.

A receipt says what was asked, which rows were deleted when, and the state of each place that held them. It contains
ids, but no text and no digest of one: a collection's ids are digests, so they are only counted.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

from bankllm.util.hash_chain import Link, check, parse, verify
from bankllm.util.sqlite import append_link, chain_of
from bankllm.vectors.embedder import TTL_S
from bankllm.vectors.rows import COLLECTION
from bankllm.vectors.sqlite.file import existing

_QUEUE = """INSERT INTO outbox (namespace, id, known, queued_at)
    SELECT ?1, value, 1, (julianday('now') - 2440587.5) * 86400.0 FROM json_each(?2) WHERE true
    ON CONFLICT (namespace, id) DO UPDATE SET version = version + 1, refused = NULL,
    queued_at = CASE WHEN pushed_at IS NULL THEN queued_at ELSE excluded.queued_at END, pushed_at = NULL"""
_AMONG = "namespace = ?1 AND id IN (SELECT value FROM json_each(?2))"
AskedBy = Literal["api", "cli", "library"]


@dataclass(frozen=True)
class Place:
    name: str
    state: Literal["cleared", "cleared_later", "out_of_reach"]
    detail: str
    until: str | None = None
    """Latest time at which a place is cleared (ISO 8601, UTC); null if `detail` names an event."""


@dataclass(frozen=True)
class Receipt:
    namespace: str
    """The customer's id, or `collection` and the collection's name."""
    asked: Literal["all", "ids"]
    asked_by: AskedBy
    committed_at: str
    """Time of the transaction that deleted the rows and wrote this receipt (ISO 8601, UTC, this machine's clock)."""
    deleted: int
    """Number of rows deleted from the file."""
    deleted_ids: list[str] | None
    """Ids of these rows; null for a collection."""
    unknown_ids: int
    """Number of ids in the request that the file did not contain."""
    outbox: list[int]
    """Numbers of the entries that delete the rows from Pinecone."""
    places: list[Place]
    chain: Link
    """Number and hash of the receipt in the chain of all receipts of the file."""


def places(at: datetime, *, wal: bool, replicated: bool) -> list[Place]:
    """List the places that held rows which were deleted at the time `at`."""
    until = (at + timedelta(seconds=TTL_S)).isoformat()
    found = [
        Place("rows", "cleared", "The bytes of texts, metadata and vectors are overwritten."),
        Place("this_process", "cleared", "The process that deleted the rows dropped its vectors and words."),
        Place(
            "other_processes", "cleared_later", "Running servers drop the vectors and words they hold in memory.", until
        ),
        Place("unused_pages", "cleared_later", "Copies of moved rows: when the store is closed or compacted."),
    ]
    if wal:
        log = "The write-ahead log: when no other process reads the state before the deletion."
        found.append(Place("write_ahead_log", "cleared_later", log))
    if replicated:
        found.append(Place("pinecone", "out_of_reach", "Until Pinecone has accepted the entries in `outbox`."))
        found.append(Place("other_machines", "out_of_reach", "Rows that other machines wrote remain in their files."))
    return [*found, Place("backups", "out_of_reach", "Copies of the file, and disk blocks that it no longer uses.")]


def delete_rows(
    db: sqlite3.Connection, namespace: str, ids: Sequence[str] | None, asked_by: AskedBy, wal: bool
) -> Receipt:
    """Delete rows (None: all) of a namespace in a transaction. `wal`: whether the file has a write-ahead log."""
    keys = [""] if ids is None else list(dict.fromkeys(ids))  # '' stands for the namespace, as in the outbox
    among = (namespace, json.dumps(keys))
    if ids is None:
        deleted = _column(db, "SELECT id FROM rows WHERE namespace = ? ORDER BY seq", namespace)
    else:
        deleted = _column(db, f"SELECT id FROM rows WHERE {_AMONG} ORDER BY seq", *among)
    db.execute(f"DELETE FROM rows WHERE {_AMONG}", (namespace, json.dumps(deleted)))
    if replicated := bool(_column(db, "SELECT 1 FROM meta WHERE key = 'replicates_to'")):
        db.execute(_QUEUE, among)  # also rows that only other machines have
        if ids is None:  # its entry replaces the others, so that it precedes those of rows written later
            db.execute("DELETE FROM outbox WHERE namespace = ? AND id <> ''", (namespace,))
    at = datetime.now(UTC)
    fields: dict[str, Any] = {
        "namespace": namespace,
        "asked": "all" if ids is None else "ids",
        "asked_by": asked_by,
        "committed_at": at.isoformat(timespec="microseconds"),
        "deleted": len(deleted),
        "deleted_ids": None if namespace.startswith(COLLECTION) else deleted,
        "unknown_ids": 0 if ids is None else len(keys) - len(deleted),
        "outbox": _column(db, f"SELECT seq FROM outbox WHERE {_AMONG}", *among),
        "places": places(at, wal=wal, replicated=replicated),
    }
    body = fields | {"places": [asdict(place) for place in fields["places"]]}
    return Receipt(**fields, chain=append_link(db, "receipts", body))


class CheckedReceipt(NamedTuple):
    receipt: dict[str, Any]
    chained: int
    """Number of receipts in the file's chain."""
    waiting: int
    """Number of the receipt's outbox entries that Pinecone has not accepted."""
    restored: int
    """Number of the deleted rows that are in the file again."""


def check_receipt(path: Path, text: str) -> CheckedReceipt:
    """Check a receipt (JSON). Raises `ChainBroken` if it was changed, or if the file's chain is broken or lacks it."""
    receipt = parse(text)
    kept = check(receipt)
    with existing(path) as db:
        entries = chain_of(db, "receipts")
        verify(entries, kept=[kept])
        rows, ids = f"SELECT count(*) FROM rows WHERE {_AMONG}", json.dumps(receipt["deleted_ids"] or [])
        (restored,) = _column(db, rows, receipt["namespace"], ids)
        entries_left = "SELECT count(*) FROM outbox WHERE pushed_at IS NULL AND seq IN (SELECT value FROM json_each(?))"
        (waiting,) = _column(db, entries_left, json.dumps(receipt["outbox"]))
    return CheckedReceipt(receipt, len(entries), waiting, restored)


def _column(db: sqlite3.Connection, sql: str, *values: object) -> list[Any]:
    return [value for (value,) in db.execute(sql, values)]
