"""The same `VectorStore` in Pinecone, for more customers and machines than one file serves.

Writes are synchronous: `upsert` returns once Pinecone has acknowledged every batch, and there is no local
outbox, so an outage is a `StoreError` at once. Pinecone is eventually consistent: a search may miss rows
acknowledged a moment ago. Set `PINECONE_API_KEY` and `open_service` takes this store.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import numpy as np

from bankllm.errors import StoreError, UsageError
from bankllm.vectors.rows import RESERVED_METADATA, Match, Row, check_namespace, check_rows, check_top_k, unit_vector

VECTOR_FIELD = "_values"
"""The one field name that makes an index of vectors; any other makes one of documents, with another API."""
BATCH_RECORDS = 1000
BATCH_BYTES = 1_900_000
"""Pinecone takes 1,000 records and 2 MB a call."""
PAGE_IDS = 100
READY_TIMEOUT_S = 120.0


class PineconeStore:
    """A `VectorStore` in one serverless Pinecone index; each namespace of ours is one of Pinecone's."""

    kind = "pinecone"

    def __init__(
        self,
        api_key: str,
        index_name: str,
        dim: int,
        embedder_id: str,
        *,
        host: str | None = None,
        cloud: str = "aws",
        region: str = "us-east-1",
        timeout_s: float = 5.0,
    ) -> None:
        """Open the index; create it if there is none, and wait until it is ready.

        `host` is the control plane's address where it is not Pinecone's own. `timeout_s` is for one attempt;
        the SDK makes up to four. Raises `StoreError` for a refused key, no answer, or an index that keeps
        other vectors than this embedder's.
        """
        from pinecone import Pinecone

        self.dim = dim
        self.embedder_id = embedder_id
        self.index_name = index_name
        with self._errors():
            self._client = Pinecone(api_key=api_key, host=host, timeout=timeout_s)
            found = self._find_or_create({"deployment_type": "managed", "cloud": cloud, "region": region})
            self._check_index(found)
            self._index = self._client.index(host=found.host)

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write rows in batches within Pinecone's limits.

        A failure may leave earlier batches written; the same call again writes all rows once, for ids replace.
        """
        check_namespace(namespace)
        records = [_record(namespace, row) for row in check_rows(rows, self.dim)]
        with self._errors():
            for batch in _batches(records):
                self._index.upsert(vectors=batch, namespace=_encode(namespace))

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Approximate nearest neighbours by cosine; `top_k` at most 10,000."""
        check_namespace(namespace)
        check_top_k(top_k)
        query = unit_vector(vector, self.dim).tolist()
        with self._errors():
            found = self._index.query(
                vector=query, top_k=int(top_k), namespace=_encode(namespace), include_metadata=True
            )
        return [_match(namespace, match) for match in found.matches]

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Remove the rows with these ids, or all of the namespace."""
        from pinecone import NotFoundError

        check_namespace(namespace)
        calls: list[dict[str, Any]] = [{"delete_all": True}]
        if ids is not None:
            calls = [{"ids": list(ids[start : start + BATCH_RECORDS])} for start in range(0, len(ids), BATCH_RECORDS)]
        # Not found: a namespace that was never written.
        with self._errors(), suppress(NotFoundError):
            for call in calls:
                self._index.delete(**call, namespace=_encode(namespace))

    def export(self, namespace: str) -> list[Row]:
        """All rows of a namespace, oldest first."""
        check_namespace(namespace)
        rows: list[Row] = []
        with self._errors():
            for page in self._index.list(namespace=_encode(namespace), limit=PAGE_IDS):
                ids = [item.id for item in page.vectors if item.id]
                fetched = self._index.fetch(ids=ids, namespace=_encode(namespace))
                rows.extend(_row(namespace, vector) for vector in fetched.vectors.values())
        return sorted(rows, key=lambda row: row.created_at)

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """The `limit` newest rows of a namespace, the newest first. Pinecone has no order: all of them are fetched."""
        return self.export(namespace)[-limit:][::-1]

    def count(self, namespace: str | None = None) -> int:
        """How many rows Pinecone has counted so far; may lag behind the writes."""
        with self._errors():
            stats = self._index.describe_index_stats()
        if namespace is None:
            return int(stats.total_vector_count)
        summary = stats.namespaces.get(_encode(namespace))
        return int(summary.vector_count) if summary else 0

    def close(self) -> None:
        """Close the connections."""
        self._index.close()
        self._client.close()

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
                    tags={"embedder": self.embedder_id},
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
            raise StoreError(
                f"Pinecone's index {self.index_name!r} keeps vectors of {embedder} with dimension and metric {kept}; "
                f"expected {self.embedder_id} with {(self.dim, 'cosine')}. Set PINECONE_INDEX_NAME to another index."
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn the SDK's errors into ours, without the key."""
        from pinecone.errors import (
            ForbiddenError,
            PineconeConnectionError,
            PineconeError,
            PineconeTimeoutError,
            PineconeTypeError,
            PineconeValueError,
            UnauthorizedError,
        )

        name = f"Pinecone (index {self.index_name!r})"
        try:
            yield
        except (UnauthorizedError, ForbiddenError) as error:
            raise StoreError(
                f"{name} refused the key. Check PINECONE_API_KEY and the project it belongs to."
            ) from error
        except (PineconeConnectionError, PineconeTimeoutError) as error:
            raise StoreError(f"{name} does not answer ({error}). Check the network and try again.") from error
        except (PineconeTypeError, PineconeValueError) as error:
            raise UsageError(f"{name} does not take this call: {error}.") from error
        except PineconeError as error:
            raise StoreError(
                f"{name} failed: {error}. Try again later; Pinecone's status page may say more."
            ) from error


def _encode(namespace: str) -> str:
    """Percent-encoded, so that any text is a legal name and two names never become one."""
    return quote(namespace, safe="")


def _record(namespace: str, row: Row) -> dict[str, Any]:
    own = {"customer_id": namespace, "text": row.text, "created_at": row.created_at}
    return {"id": row.id, "values": row.vector.tolist(), "metadata": {**row.metadata, **own}}


def _batches(records: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
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


def _match(namespace: str, match: Any) -> Match:
    metadata = _own_metadata(namespace, match)
    return Match(match.id, float(match.score), match.metadata["text"], metadata, match.metadata["created_at"])


def _row(namespace: str, vector: Any) -> Row:
    metadata = _own_metadata(namespace, vector)
    values = np.asarray(vector.values, dtype=np.float32)
    return Row(vector.id, vector.metadata["text"], values, metadata, vector.metadata["created_at"])


def _own_metadata(namespace: str, record: Any) -> dict[str, Any]:
    """The caller's metadata. Another customer's record is an error and is never handed on."""
    metadata = record.metadata or {}
    if metadata.get("customer_id") != namespace:
        raise StoreError(
            f"Pinecone returned record {record.id} for {namespace!r}, but it is not that customer's. Nothing was "
            "handed on; look for another program that writes into this index."
        )
    return {key: value for key, value in metadata.items() if key not in RESERVED_METADATA}
