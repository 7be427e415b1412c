"""The same `VectorStore` in Pinecone, for more customers and machines than one file serves.

Calls are synchronous: an outage is a `StoreError` at once. Pinecone is eventually consistent: a search may miss rows
acknowledged a moment ago. `replicated.ReplicatedStore` puts a local file in front, which cures both; that is the
store that `open_service` takes where `PINECONE_API_KEY` is set.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

import numpy as np

from bankllm.errors import StoreError
from bankllm.settings import PineconeNamespaces
from bankllm.vectors.pinecone.conversion import (
    BATCH_RECORDS,
    RecordLocation,
    batches,
    match_of,
    record_location,
    record_of,
    row_of,
)
from bankllm.vectors.pinecone.errors import IndexMismatch, pinecone_errors
from bankllm.vectors.rows import Match, Row, check_rows, check_top_k, unit_vector

VECTOR_FIELD = "_values"
"""The one field name that makes an index of vectors; any other makes one of documents, with another API."""
PAGE_IDS = 100
MAX_TOP_K = 10_000
READY_TIMEOUT_S = 120.0


class Found(NamedTuple):
    """What a search of Pinecone gives."""

    matches: list[Match]
    indexed: int | None
    """Up to which log position (LSN) the answer holds every write of its Pinecone namespace; None: not told."""


class PineconeStore:
    """A `VectorStore` in one serverless Pinecone index."""

    kind = "pinecone"

    def __init__(
        self,
        api_key: str,
        index_name: str,
        dim: int,
        embedder_id: str,
        *,
        layout: PineconeNamespaces = "customer",
        host: str | None = None,
        cloud: str = "aws",
        region: str = "us-east-1",
        timeout_s: float = 5.0,
    ) -> None:
        """Open the index; create it if there is none, and wait until it is ready.

        `host` is the control plane's address where it is not Pinecone's own. `timeout_s` is for one attempt;
        the SDK makes up to four. Raises `KeyRefused`, `IndexMismatch` for an index that keeps other vectors than this
        embedder's or in another layout, and `StoreError` for no answer.
        """
        from pinecone import Pinecone

        self.dim = dim
        self.embedder_id = embedder_id
        self.index_name = index_name
        self.layout = layout
        with self._errors():
            self._client = Pinecone(api_key=api_key, host=host, timeout=timeout_s)
            found = self._find_or_create({"deployment_type": "managed", "cloud": cloud, "region": region})
            self._check_index(found)
            self._index = self._client.index(host=found.host)

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write rows in batches within Pinecone's limits.

        A failure may leave earlier batches written; the same call again writes all rows once, for ids replace.
        """
        place = record_location(namespace, self.layout)
        self.put([record_of(place, row) for row in check_rows(rows, self.dim)], place.namespace)

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write one namespace's rows after the other's; a failure may leave earlier ones written."""
        for namespace, rows in groups:
            self.upsert(namespace, rows)

    def put(self, records: Sequence[dict[str, Any]], pinecone_namespace: str) -> int | None:
        """Write records that `record_of` made; the log position of the last of them, where Pinecone tells it."""
        written = None
        with self._errors():
            for batch in batches(records):
                answer = self._index.upsert(vectors=batch, namespace=pinecone_namespace)
                written = answer.response_info.lsn_committed if answer.response_info else None
        return written

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Approximate nearest neighbours by cosine; `top_k` at most 10,000."""
        return self.find(namespace, vector, top_k).matches

    def search_many(self, queries: Sequence[tuple[str, np.ndarray]], top_k: int) -> list[list[Match]]:
        """`search` for each, one after the other."""
        return [self.search(namespace, vector, top_k) for namespace, vector in queries]

    def find(self, namespace: str, vector: np.ndarray, top_k: int) -> Found:
        """As `search`, and how fresh the answer is."""
        place = record_location(namespace, self.layout)
        check_top_k(top_k)
        query = unit_vector(vector, self.dim).tolist()
        with self._errors():
            found = self._index.query(
                vector=query, top_k=int(top_k), namespace=place.namespace, filter=place.filter, include_metadata=True
            )
        indexed = found.response_info.lsn_reconciled if found.response_info else None
        return Found([match_of(place, match) for match in found.matches], indexed)

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Remove the rows with these ids, or all of the namespace."""
        place = record_location(namespace, self.layout)
        if ids is None:
            self._delete(place.namespace, {"filter": place.filter} if place.filter else {"delete_all": True})
        else:
            self.remove([place.id_of(id_) for id_ in ids], place.namespace)

    def remove(self, record_ids: Sequence[str], pinecone_namespace: str) -> None:
        """Remove records by Pinecone's ids."""
        for start in range(0, len(record_ids), BATCH_RECORDS):
            self._delete(pinecone_namespace, {"ids": list(record_ids[start : start + BATCH_RECORDS])})

    def _delete(self, pinecone_namespace: str, what: Mapping[str, Any]) -> None:
        from pinecone import NotFoundError

        # Not found: a namespace that was never written.
        with self._errors(), suppress(NotFoundError):
            self._index.delete(**what, namespace=pinecone_namespace)

    def export(self, namespace: str) -> list[Row]:
        """All rows of a namespace, oldest first."""
        return self.export_without(namespace, ())

    def export_without(self, namespace: str, known: Collection[str]) -> list[Row]:
        """All rows of a namespace whose ids are not `known`, oldest first; only these are fetched."""
        place = record_location(namespace, self.layout)
        rows: list[Row] = []
        with self._errors():
            for ids in self._pages(place):
                if wanted := [id_ for id_ in ids if id_.removeprefix(place.prefix) not in known]:
                    fetched = self._index.fetch(ids=wanted, namespace=place.namespace)
                    rows.extend(row_of(place, vector) for vector in fetched.vectors.values())
        return sorted(rows, key=lambda row: row.created_at)

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """The `limit` newest rows of a namespace, the newest first. Pinecone has no order: all of them are fetched."""
        return self.export(namespace)[-limit:][::-1]

    def count(self, namespace: str | None = None) -> int:
        """How many rows Pinecone has counted so far; may lag behind the writes.

        In the layout `shared` one customer's are counted by listing their ids, 100 a call.
        """
        place = record_location(namespace, self.layout) if namespace is not None else None
        with self._errors():
            if place and place.prefix:
                return sum(map(len, self._pages(place)))
            stats = self._index.describe_index_stats()
        if place is None:
            return int(stats.total_vector_count)
        summary = stats.namespaces.get(place.namespace)
        return int(summary.vector_count) if summary else 0

    def close(self) -> None:
        """Close the connections."""
        self._index.close()
        self._client.close()

    def _pages(self, place: RecordLocation) -> Iterator[list[str]]:
        for page in self._index.list(namespace=place.namespace, limit=PAGE_IDS, prefix=place.prefix or None):
            yield [item.id for item in page.vectors if item.id]

    def _find_or_create(self, deployment: Mapping[str, str]) -> Any:
        from pinecone import ConflictError, NotFoundError

        deadline = time.monotonic() + READY_TIMEOUT_S
        try:
            found = self._client.indexes.describe(self.index_name)
        except NotFoundError:
            field = {"type": "dense_vector", "dimension": self.dim, "metric": "cosine"}
            try:
                found = self._client.indexes.create(
                    name=self.index_name,
                    schema={"fields": {VECTOR_FIELD: field}},
                    deployment=dict(deployment),
                    tags={"embedder": self.embedder_id, "namespaces": self.layout},
                    timeout=-1,
                )
            except ConflictError:  # another process has created it just now
                found = self._client.indexes.describe(self.index_name)
        while not found.status.ready:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"Pinecone's index {self.index_name!r} is {found.status.state} after {READY_TIMEOUT_S:.0f} s, not "
                    "ready. Look at it in Pinecone's console, or try again later."
                )
            time.sleep(1)
            found = self._client.indexes.describe(self.index_name)
        return found

    def _check_index(self, found: Any) -> None:
        field = found.schema.fields.get(VECTOR_FIELD)
        kept = (getattr(field, "dimension", None), getattr(field, "metric", None))
        # An index made by hand has no tag; one that we made always says whose vectors it holds.
        embedder = (found.tags or {}).get("embedder", self.embedder_id)
        if kept != (self.dim, "cosine") or embedder != self.embedder_id:
            raise IndexMismatch(
                f"Pinecone's index {self.index_name!r} keeps vectors of {embedder} with dimension and metric {kept}; "
                f"expected {self.embedder_id} with {(self.dim, 'cosine')}. Set PINECONE_INDEX_NAME to another index."
            )
        layout = (found.tags or {}).get("namespaces", "customer")  # there was no other before there was the tag
        if layout != self.layout:
            raise IndexMismatch(
                f"Pinecone's index {self.index_name!r} keeps customers in the layout {layout!r}; expected "
                f"{self.layout!r}. Set BANKLLM_PINECONE_NAMESPACES={layout}, or PINECONE_INDEX_NAME to a new index."
            )

    def _errors(self) -> AbstractContextManager[None]:
        return pinecone_errors(self.index_name)
