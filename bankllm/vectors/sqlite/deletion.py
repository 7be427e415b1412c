"""Delete rows and write the receipt in the same transaction. The receipts of a file form a hash chain."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from bankllm.util.hash_chain import check, parse, verify
from bankllm.util.sqlite import append_link, chain_of
from bankllm.vectors.receipts import AskedBy, Receipt, places
from bankllm.vectors.rows import COLLECTION
from bankllm.vectors.sqlite.file import existing

_QUEUE = """INSERT INTO outbox (namespace, id, known, queued_at)
    SELECT ?1, value, 1, (julianday('now') - 2440587.5) * 86400.0 FROM json_each(?2) WHERE true
    ON CONFLICT (namespace, id) DO UPDATE SET version = version + 1, refused = NULL,
    queued_at = CASE WHEN pushed_at IS NULL THEN queued_at ELSE excluded.queued_at END, pushed_at = NULL"""
_AMONG = "namespace = ?1 AND id IN (SELECT value FROM json_each(?2))"


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
    return _append(
        db,
        namespace=namespace,
        asked="all" if ids is None else "ids",
        asked_by=asked_by,
        committed_at=at.isoformat(timespec="microseconds"),
        deleted=len(deleted),
        deleted_ids=None if namespace.startswith(COLLECTION) else deleted,
        unknown_ids=0 if ids is None else len(keys) - len(deleted),
        outbox=_column(db, f"SELECT seq FROM outbox WHERE {_AMONG}", *among),
        places=places(at, wal=wal, replicated=replicated),
    )


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


def _append(db: sqlite3.Connection, **fields: Any) -> Receipt:
    body = fields | {"places": [asdict(place) for place in fields["places"]]}
    return Receipt(**fields, chain=append_link(db, "receipts", body))


def _column(db: sqlite3.Connection, sql: str, *values: object) -> list[Any]:
    return [value for (value,) in db.execute(sql, values)]
