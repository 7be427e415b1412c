"""Delete rows and write the receipt in the same transaction. The receipts of a file form a hash chain."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bankllm.util.hash_chain import Link, chained, check, link_of, parse, verify
from bankllm.vectors.receipts import AskedBy, Receipt, places
from bankllm.vectors.rows import COLLECTION
from bankllm.vectors.sqlite.file import store_errors
from bankllm.vectors.sqlite.schema import REPLICATES_TO

_REMOVE = "INSERT INTO removals VALUES (?, ?)"
"""Deletes one row, or all rows of a namespace if the id is NULL, and queues an outbox entry, see `OUTBOX_SCHEMA`."""
_REPLICATED = "SELECT 1 FROM meta WHERE key = ?"
_AMONG = "namespace = ? AND id IN (SELECT value FROM json_each(?))"


@dataclass
class Deletion:
    """A request to delete rows of one namespace. It runs in parts: one transaction and one receipt each."""

    namespace: str
    ids: Sequence[str] | None
    """None for all rows of the namespace."""
    asked_by: AskedBy
    wal: bool
    """Whether the file has a write-ahead log."""
    deleted: list[str] = field(default_factory=list)
    outbox: list[int] = field(default_factory=list)

    def run_part(self, db: sqlite3.Connection, start: int, rows: int, last: bool) -> Receipt:
        """Delete `rows` rows from position `start` of the request on; the last part deletes whatever is left."""
        keys: Sequence[str]
        if self.ids is None:
            oldest = "SELECT id FROM rows WHERE namespace = ? ORDER BY seq LIMIT ?"
            deleted = _column(db, oldest, self.namespace, -1 if last else rows)
            keys = [""] if last else deleted  # as in the outbox: '' stands for the namespace
        else:
            keys = self.ids[start : start + rows]
            deleted = _column(db, f"SELECT id FROM rows WHERE {_AMONG} ORDER BY seq", self.namespace, json.dumps(keys))
        db.executemany(_REMOVE, [(self.namespace, key or None) for key in keys])
        queued = _column(db, f"SELECT seq FROM outbox WHERE {_AMONG}", self.namespace, json.dumps(keys))
        self.deleted += deleted
        self.outbox += queued
        at = datetime.now(UTC)
        reported = self.deleted if last else deleted
        return _append(
            db,
            namespace=self.namespace,
            asked="all" if self.ids is None else "ids",
            asked_by=self.asked_by,
            committed_at=at.isoformat(timespec="microseconds"),
            deleted=len(reported),
            deleted_ids=None if self.namespace.startswith(COLLECTION) else reported,
            unknown_ids=0 if self.ids is None else len(self.ids if last else keys) - len(reported),
            complete=last,
            outbox=queued if self.ids is None or not last else self.outbox,
            places=places(at, wal=self.wal, replicated=bool(_column(db, _REPLICATED, REPLICATES_TO))),
        )


class CheckedReceipt(NamedTuple):
    receipt: dict[str, Any]
    chained: int
    """Number of receipts in the file's chain."""
    waiting: int
    """Number of the receipt's outbox entries that Pinecone has not accepted."""
    restored: int
    """Number of the deleted rows that are in the file again."""


def check_receipt(db: sqlite3.Connection, path: Path, text: str) -> CheckedReceipt:
    """Check a receipt as JSON. Raises `ChainBroken` if it was changed, or if the file's chain is broken or lacks it."""
    receipt = parse(text)
    kept = check(receipt)
    with store_errors(path):
        entries = [parse(entry) for entry in _column(db, "SELECT entry FROM receipts ORDER BY number")]
        verify(entries, kept=[kept])
        rows, ids = f"SELECT count(*) FROM rows WHERE {_AMONG}", json.dumps(receipt["deleted_ids"] or [])
        (restored,) = _column(db, rows, receipt["namespace"], ids)
        entries_left = "SELECT count(*) FROM outbox WHERE pushed_at IS NULL AND seq IN (SELECT value FROM json_each(?))"
        (waiting,) = _column(db, entries_left, json.dumps(receipt["outbox"]))
    return CheckedReceipt(receipt, len(entries), waiting, restored)


def _append(db: sqlite3.Connection, **fields: Any) -> Receipt:
    last = db.execute("SELECT number, '', hash FROM receipts ORDER BY number DESC LIMIT 1").fetchone()
    entry = chained(fields | {"places": [asdict(place) for place in fields["places"]]}, Link(*last) if last else None)
    receipt = Receipt(**fields, chain=link_of(entry))
    db.execute("INSERT INTO receipts VALUES (?, ?, ?)", (receipt.chain.number, receipt.chain.hash, json.dumps(entry)))
    return receipt


def _column(db: sqlite3.Connection, sql: str, *values: object) -> list[Any]:
    return [value for (value,) in db.execute(sql, values)]
