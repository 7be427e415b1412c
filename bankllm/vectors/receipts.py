"""Deletion receipts: what was asked, which rows were deleted when, and the state of each place that held them.

A receipt contains ids, but no text and no digest of one: a collection's ids are digests, so they are only counted.
`sqlite.receipts` keeps the receipts in the store's file.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from bankllm.util.hash_chain import Link
from bankllm.vectors.embedder import TTL_S

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
