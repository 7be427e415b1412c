"""A `VectorStore` in a Pinecone index, for more customers and machines than one file can serve.

Calls are synchronous, so an outage raises `StoreError` immediately. Pinecone is eventually consistent, so a search may
miss rows that were acknowledged just before. `replicated.ReplicatedStore` adds a local file to avoid both problems;
`open_service` uses it if `PINECONE_API_KEY` is set.
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
"""Pinecone creates a vector index only for this field name; other names create a document index with another API."""
PAGE_IDS = 100
"""Ids per list call."""
MAX_TOP_K = 10_000
"""Pinecone's limit for `top_k`."""
READY_TIMEOUT_S = 120.0
"""Maximum time in seconds to wait for a new index."""


class QueryResult(NamedTuple):
    """Result of a Pinecone query."""

    matches: list[Match]
    indexed: int | None
    """Log position (LSN) up to which the result includes all writes of its Pinecone namespace; None if unknown."""


class PineconeStore:
    """A `VectorStore` in one serverless Pinecone index."""

    kind = "pinecone"
    remote = True

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
        """Open the index; create it if it does not exist, and wait until it is ready.

        `host` is the control plane's address, if it is not Pinecone's own. `timeout_s` limits one attempt in seconds;
        the SDK makes up to four attempts. Raises `KeyRefused` if Pinecone rejects the key, `IndexMismatch` if the index
        holds vectors of another embedder or uses another layout, and `StoreError` if Pinecone does not answer.
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

        If a call fails, earlier batches may be written. Repeating the call is safe, because rows with the same id are
        replaced.
        """
        location = record_location(namespace, self.layout)
        self.put([record_of(location, row) for row in check_rows(rows, self.dim)], location.namespace)

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write the namespaces sequentially; if a call fails, earlier namespaces may be written."""
        for namespace, rows in groups:
            self.upsert(namespace, rows)

    def put(self, records: Sequence[dict[str, Any]], pinecone_namespace: str) -> int | None:
        """Write records from `record_of`; return the log position of the last write, or None if Pinecone sends none."""
        written = None
        with self._errors():
            for batch in batches(records):
                answer = self._index.upsert(vectors=batch, namespace=pinecone_namespace)
                written = answer.response_info.lsn_committed if answer.response_info else None
        return written

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Return approximate nearest neighbours by cosine, best first; `top_k` is at most 10,000."""
        return self.query(namespace, vector, top_k).matches

    def search_many(self, queries: Sequence[tuple[str, np.ndarray]], top_k: int) -> list[list[Match]]:
        """Run `search` for each pair, sequentially."""
        return [self.search(namespace, vector, top_k) for namespace, vector in queries]

    def query(self, namespace: str, vector: np.ndarray, top_k: int) -> QueryResult:
        """Run `search` and also return the log position that the result includes."""
        location = record_location(namespace, self.layout)
        check_top_k(top_k)
        unit = unit_vector(vector, self.dim).tolist()
        with self._errors():
            found = self._index.query(
                vector=unit,
                top_k=int(top_k),
                namespace=location.namespace,
                filter=location.filter,
                include_metadata=True,
            )
        indexed = found.response_info.lsn_reconciled if found.response_info else None
        return QueryResult([match_of(location, match) for match in found.matches], indexed)

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Delete the rows with these ids, or all rows of the namespace."""
        location = record_location(namespace, self.layout)
        if ids is None:
            self._delete(location.namespace, {"filter": location.filter} if location.filter else {"delete_all": True})
        else:
            self.remove([location.id_of(id_) for id_ in ids], location.namespace)

    def remove(self, record_ids: Sequence[str], pinecone_namespace: str) -> None:
        """Delete records by their Pinecone ids."""
        for start in range(0, len(record_ids), BATCH_RECORDS):
            self._delete(pinecone_namespace, {"ids": list(record_ids[start : start + BATCH_RECORDS])})

    def _delete(self, pinecone_namespace: str, what: Mapping[str, Any]) -> None:
        from pinecone import NotFoundError

        # NotFoundError means that nothing was ever written to the namespace.
        with self._errors(), suppress(NotFoundError):
            self._index.delete(**what, namespace=pinecone_namespace)

    def export(self, namespace: str) -> list[Row]:
        """Return all rows of a namespace, oldest first."""
        return self.export_without(namespace, ())

    def export_without(self, namespace: str, known: Collection[str]) -> list[Row]:
        """Return the rows of a namespace whose ids are not in `known`, oldest first; only these are fetched."""
        location = record_location(namespace, self.layout)
        rows: list[Row] = []
        with self._errors():
            for ids in self._pages(location):
                if wanted := [id_ for id_ in ids if id_.removeprefix(location.prefix) not in known]:
                    fetched = self._index.fetch(ids=wanted, namespace=location.namespace)
                    rows.extend(row_of(location, vector) for vector in fetched.vectors.values())
        return sorted(rows, key=lambda row: row.created_at)

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """Return the `limit` newest rows, the newest first. Pinecone has no order, so all rows are fetched."""
        return self.export(namespace)[-limit:][::-1]

    def count(self, namespace: str | None = None) -> int:
        """Return Pinecone's count of rows, which may lag behind the writes.

        In the layout `shared`, one customer's rows are counted by listing their ids, 100 per call.
        """
        location = record_location(namespace, self.layout) if namespace is not None else None
        with self._errors():
            if location and location.prefix:
                return sum(map(len, self._pages(location)))
            stats = self._index.describe_index_stats()
        if location is None:
            return int(stats.total_vector_count)
        summary = stats.namespaces.get(location.namespace)
        return int(summary.vector_count) if summary else 0

    def close(self) -> None:
        """Close the connections."""
        self._index.close()
        self._client.close()

    def _pages(self, location: RecordLocation) -> Iterator[list[str]]:
        for page in self._index.list(namespace=location.namespace, limit=PAGE_IDS, prefix=location.prefix or None):
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
                    "ready. Check the index in Pinecone's console, or try again later."
                )
            time.sleep(1)
            found = self._client.indexes.describe(self.index_name)
        return found

    def _check_index(self, found: Any) -> None:
        field = found.schema.fields.get(VECTOR_FIELD)
        kept = (getattr(field, "dimension", None), getattr(field, "metric", None))
        # An index created manually has no tags; an index created by bankllm has a tag with the embedder.
        embedder = (found.tags or {}).get("embedder", self.embedder_id)
        if kept != (self.dim, "cosine") or embedder != self.embedder_id:
            raise IndexMismatch(
                f"Pinecone's index {self.index_name!r} holds vectors of {embedder} with dimension and metric {kept}; "
                f"expected {self.embedder_id} with {(self.dim, 'cosine')}. Set PINECONE_INDEX_NAME to another index."
            )
        layout = (found.tags or {}).get("namespaces", "customer")  # indexes without the tag use the oldest layout
        if layout != self.layout:
            raise IndexMismatch(
                f"Pinecone's index {self.index_name!r} uses the layout {layout!r}; expected "
                f"{self.layout!r}. Set BANKLLM_PINECONE_NAMESPACES={layout}, or PINECONE_INDEX_NAME to a new index."
            )

    def _errors(self) -> AbstractContextManager[None]:
        return pinecone_errors(self.index_name)
