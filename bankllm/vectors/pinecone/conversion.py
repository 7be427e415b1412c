"""Convert rows to Pinecone records and back, and map customers to Pinecone namespaces.

Layout `customer` (default): each customer has a separate Pinecone namespace. Layout `shared`, for Pinecone plans that
limit the number of namespaces: one namespace contains all customers, record ids start with the customer's name, and
each search and delete filters by customer.
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
"""Pinecone namespace of all records in the layout `shared`."""
BATCH_RECORDS = 1000
"""Pinecone's limit of records per call."""
BATCH_BYTES = 1_900_000
"""Maximum bytes per call; Pinecone's limit is 2 MB."""


@dataclass(frozen=True)
class RecordLocation:
    """Where one customer's records are stored in the index."""

    customer: str
    namespace: str
    """The Pinecone namespace."""
    prefix: str = ""
    """Prefix of the customer's record ids; empty in the layout `customer`."""

    @property
    def filter(self) -> dict[str, Any] | None:
        """Metadata filter that restricts a search or delete to this customer; None in the layout `customer`."""
        return {"customer_id": {"$eq": self.customer}} if self.prefix else None

    def id_of(self, id_: str) -> str:
        """Return a row's record id in Pinecone. Raises `UsageError` if it exceeds Pinecone's limit."""
        if len(self.prefix) + len(id_) > MAX_ID_CHARACTERS:
            raise UsageError(
                f"Row {id_[:40]!r} of a customer with a long name: in the shared layout, name and row id together may "
                f"have at most {MAX_ID_CHARACTERS} characters, got {len(self.prefix) + len(id_)}. Shorten the row id."
            )
        return self.prefix + id_


def record_location(customer: str, layout: PineconeNamespaces) -> RecordLocation:
    """Return where a customer's records are stored.

    The name is percent-encoded: the result is a valid Pinecone namespace, and different names stay different. Raises
    `UsageError` for a name that Pinecone would map to its shared default namespace.
    """
    check_namespace(customer)
    encoded = quote(customer, safe="")
    return (
        RecordLocation(customer, encoded)
        if layout == "customer"
        else RecordLocation(customer, SHARED_NAMESPACE, f"{encoded}/")
    )


def record_of(location: RecordLocation, row: Row) -> dict[str, Any]:
    """Convert a row with a unit-length vector to a record for an upsert."""
    own = {"customer_id": location.customer, "text": row.text, "created_at": row.created_at}
    return {"id": location.id_of(row.id), "values": row.vector.tolist(), "metadata": {**row.metadata, **own}}


def match_of(location: RecordLocation, found: Any) -> Match:
    """Convert a Pinecone match. Raises `ForeignRecord` if it belongs to another customer."""
    metadata = _own_metadata(location, found)
    id_ = found.id.removeprefix(location.prefix)
    return Match(id_, float(found.score), found.metadata["text"], metadata, found.metadata["created_at"])


def row_of(location: RecordLocation, found: Any) -> Row:
    """Convert a fetched Pinecone record. Raises `ForeignRecord` if it belongs to another customer."""
    metadata = _own_metadata(location, found)
    values = np.asarray(found.values, dtype=np.float32)
    id_ = found.id.removeprefix(location.prefix)
    return Row(id_, found.metadata["text"], values, metadata, found.metadata["created_at"])


def batches(records: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split records into batches within Pinecone's limits; the order is kept."""
    batch: list[dict[str, Any]] = []
    total = 0
    for record in records:
        size = len(json.dumps(record))  # ASCII escapes make this an upper bound of the bytes sent
        if batch and (len(batch) == BATCH_RECORDS or total + size > BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(record)
        total += size
    if batch:
        yield batch


def _own_metadata(location: RecordLocation, record: Any) -> dict[str, Any]:
    """Return the caller's metadata. Raises `ForeignRecord` for another customer's record, without its content."""
    metadata = record.metadata or {}
    if metadata.get("customer_id") != location.customer or not record.id.startswith(location.prefix):
        raise ForeignRecord(
            f"Pinecone returned record {record.id} for {location.customer!r}, but the record is not that customer's. "
            "It was discarded. Check whether another program writes to this index."
        )
    return {key: value for key, value in metadata.items() if key not in RESERVED_METADATA}
