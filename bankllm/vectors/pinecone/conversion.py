"""A row of ours as a record of Pinecone's and back, and where in an index a customer's records lie.

By default each customer has a namespace of its own. Plans limit how many an index takes; in the layout `shared` one
namespace holds all, ids begin with the customer, and every search and removal is filtered by the customer.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from bankllm.errors import UsageError
from bankllm.settings import PineconeNamespaces
from bankllm.vectors.pinecone.errors import ForeignRecord
from bankllm.vectors.rows import MAX_ID_CHARACTERS, RESERVED_METADATA, Match, Row, check_namespace

SHARED_NAMESPACE = "bankllm"
"""Holds every customer's records in the layout `shared`."""
BATCH_RECORDS = 1000
BATCH_BYTES = 1_900_000
"""Pinecone takes 1,000 records and 2 MB a call."""


@dataclass(frozen=True)
class RecordLocation:
    """Where one customer's records lie."""

    customer: str
    namespace: str
    """Pinecone's."""
    prefix: str = ""
    """What the customer's ids begin with; empty where the namespace is the customer's alone."""

    @property
    def filter(self) -> dict[str, Any] | None:
        """What a search or removal must ask for, so that it meets this customer's records alone."""
        return {"customer_id": {"$eq": self.customer}} if self.prefix else None

    def id_of(self, id_: str) -> str:
        """A row's id in Pinecone. Raises `UsageError` where it gets too long for it."""
        if len(self.prefix) + len(id_) > MAX_ID_CHARACTERS:
            raise UsageError(
                f"Row {id_[:40]!r} of a customer with a long name: in the shared layout both together take at most "
                f"{MAX_ID_CHARACTERS} characters, got {len(self.prefix) + len(id_)}. Shorten the id."
            )
        return self.prefix + id_


def record_location(customer: str, layout: PineconeNamespaces) -> RecordLocation:
    """Names are percent-encoded, so that any text is a legal one and two never become one.

    Raises `UsageError` for a name that would land in a namespace that Pinecone shares.
    """
    check_namespace(customer)
    encoded = quote(customer, safe="")
    return (
        RecordLocation(customer, encoded)
        if layout == "customer"
        else RecordLocation(customer, SHARED_NAMESPACE, f"{encoded}/")
    )


def record_of(place: RecordLocation, row: Row) -> dict[str, Any]:
    """What is sent of a row with a unit-length vector."""
    own = {"customer_id": place.customer, "text": row.text, "created_at": row.created_at}
    return {"id": place.id_of(row.id), "values": row.vector.tolist(), "metadata": {**row.metadata, **own}}


def match_of(place: RecordLocation, found: Any) -> Match:
    """A match as Pinecone sent it. Raises `ForeignRecord`."""
    metadata = _own_metadata(place, found)
    id_ = found.id.removeprefix(place.prefix)
    return Match(id_, float(found.score), found.metadata["text"], metadata, found.metadata["created_at"])


def row_of(place: RecordLocation, found: Any) -> Row:
    """A record as Pinecone sent it. Raises `ForeignRecord`."""
    metadata = _own_metadata(place, found)
    values = np.asarray(found.values, dtype=np.float32)
    id_ = found.id.removeprefix(place.prefix)
    return Row(id_, found.metadata["text"], values, metadata, found.metadata["created_at"])


def batches(records: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The records in order, in calls within Pinecone's limits."""
    batch: list[dict[str, Any]] = []
    total = 0
    for record in records:
        size = len(json.dumps(record))  # escapes make it an upper bound of what is sent
        if batch and (len(batch) == BATCH_RECORDS or total + size > BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(record)
        total += size
    if batch:
        yield batch


def _own_metadata(place: RecordLocation, record: Any) -> dict[str, Any]:
    """The caller's metadata. Another customer's record is an error and is never handed on."""
    metadata = record.metadata or {}
    if metadata.get("customer_id") != place.customer or not record.id.startswith(place.prefix):
        raise ForeignRecord(
            f"Pinecone returned record {record.id} for {place.customer!r}, but it is not that customer's. Nothing was "
            "handed on; look for another program that writes into this index."
        )
    return {key: value for key, value in metadata.items() if key not in RESERVED_METADATA}
