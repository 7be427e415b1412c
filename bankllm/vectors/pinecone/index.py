"""One Pinecone index: its records, and calls whose errors are converted. Each customer has a separate namespace."""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote

import numpy as np
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from bankllm.errors import StoreError
from bankllm.util.sampling import batches
from bankllm.vectors.filters import Filter
from bankllm.vectors.rows import RESERVED_METADATA, Match, Row, check_namespace

VECTOR_FIELD = "_values"
"""Pinecone creates a vector index only for this field name; other names create a document index with another API."""
BATCH_RECORDS, BATCH_BYTES, PAGE_IDS, MAX_TOP_K = 1000, 1_900_000, 100, 10_000
"""Pinecone's limits: records and bytes (2 MB) per call, ids per list call, and `top_k`."""
READY_TIMEOUT_S = 120.0
"""Maximum time in seconds to wait for a new index."""
REJECTED = frozenset({400, 413, 422})
"""HTTP status codes that mean that a retry of the same call cannot succeed."""


class KeyRefused(StoreError):
    """The API key is rejected or lacks a permission; calls fail until an operator fixes it."""


class IndexMismatch(StoreError):
    """The index was created for another embedder, dimension or metric."""


class CallRefused(StoreError):
    """The content of this call is rejected; a retry cannot succeed."""


class ForeignRecord(StoreError):
    """Pinecone returned a record of another customer."""


def namespace_of(customer: str) -> str:
    """Return the Pinecone namespace of a customer. Percent-encoding keeps different names different.

    Raises `UsageError` for a name that Pinecone would map to its shared default namespace.
    """
    check_namespace(customer)
    return quote(customer, safe="")


def record_of(customer: str, row: Row) -> dict[str, Any]:
    own: dict[str, Any] = {"customer_id": customer, "text": row.text, "created_at": row.created_at}
    with suppress(ValueError):  # not a time that a filter can compare
        own["created_s"] = datetime.fromisoformat(row.created_at).timestamp()
    if row.expires_at is not None:
        own["expires_at"] = row.expires_at
    return {"id": row.id, "values": row.vector.tolist(), "metadata": {**row.metadata, **own}}


def fields_of(customer: str, found: Any) -> dict[str, Any]:
    """Return the fields of a record that `Match` and `Row` share. Raises `ForeignRecord` for another customer's."""
    kept = found.metadata or {}
    if kept.get("customer_id") != customer:
        raise ForeignRecord(
            f"Pinecone returned record {found.id} for {customer!r}, but the record is not that customer's. "
            "It was discarded. Check whether another program writes to this index."
        )
    metadata = {key: value for key, value in kept.items() if key not in RESERVED_METADATA}
    return {"id": found.id, "text": kept["text"], "metadata": metadata, "created_at": kept["created_at"]}


def row_of(customer: str, found: Any) -> Row:
    fields = fields_of(customer, found)  # first, because it checks the record
    return Row(vector=np.asarray(found.values, np.float32), expires_at=found.metadata.get("expires_at"), **fields)


class PineconeIndex:
    """One serverless Pinecone index. All calls raise `StoreError` if Pinecone fails."""

    def __init__(
        self,
        api_key: str,
        index_name: str,
        dim: int,
        embedder_id: str,
        *,
        host: str | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        """Open the index; create it if it does not exist, and wait until it is ready.

        `host` is the control plane's address; `timeout_s` limits each of the SDK's four attempts. Raises `StoreError`.
        """
        from pinecone import Pinecone

        self._name, self._vectors = index_name, (dim, embedder_id)
        with self._errors():
            self._client = Pinecone(api_key=api_key, host=host, timeout=timeout_s)
            found = self._find_or_create()
            self._check(found)
            self._index = self._client.index(host=found.host)

    def put(self, customer: str, rows: Sequence[Row]) -> None:
        """Write rows in batches. If a call fails, repeat it: equal ids replace each other."""
        namespace = namespace_of(customer)
        with self._errors():
            # ASCII escapes make the size an upper bound of the bytes sent.
            records = [record_of(customer, row) for row in rows]
            for batch in batches(records, lambda record: len(json.dumps(record)), BATCH_BYTES, BATCH_RECORDS):
                self._index.upsert(vectors=batch, namespace=namespace)

    def query(self, customer: str, unit: np.ndarray, top_k: int, where: Filter | None = None) -> list[Match]:
        """Return approximate nearest neighbours by cosine, best first; `top_k` is at most 10,000."""
        where = where or Filter()
        alive = {"$or": [{"expires_at": {"$exists": False}}, {"expires_at": {"$gt": time.time()}}]}
        with self._errors():
            found = self._index.query(
                vector=unit.tolist(),
                top_k=top_k,
                namespace=namespace_of(customer),
                filter={"$and": [alive, *where.pinecone()]},
                include_metadata=True,
            )
        return [Match(score=float(match.score), **fields_of(customer, match)) for match in found.matches]

    def remove(self, customer: str, ids: Sequence[str] | None) -> None:
        """Delete up to `BATCH_RECORDS` records by their ids, or all records of the customer."""
        from pinecone import NotFoundError

        what = {"delete_all": True} if ids is None else {"ids": list(ids)}
        # NotFoundError means that nothing was ever written to the namespace.
        with self._errors(), suppress(NotFoundError):
            self._index.delete(**what, namespace=namespace_of(customer))

    def export_without(self, customer: str, known: Collection[str]) -> list[Row]:
        """Return the customer's rows whose ids are not in `known` and that have not expired, in any order."""
        namespace, rows = namespace_of(customer), list[Row]()
        with self._errors():
            for page in self._index.list(namespace=namespace, limit=PAGE_IDS):
                if wanted := [item.id for item in page.vectors if item.id and item.id not in known]:
                    found = self._index.fetch(ids=wanted, namespace=namespace).vectors.values()
                    rows += [row_of(customer, record) for record in found]
        return [row for row in rows if row.expires_at is None or row.expires_at > time.time()]

    def close(self) -> None:
        self._index.close()
        self._client.close()

    def _find_or_create(self) -> Any:
        from pinecone import ConflictError, NotFoundError

        dim, embedder_id = self._vectors
        try:
            self._client.indexes.describe(self._name)
        except NotFoundError:
            with suppress(ConflictError):  # another process has created it just now
                self._client.indexes.create(
                    name=self._name,
                    schema={"fields": {VECTOR_FIELD: {"type": "dense_vector", "dimension": dim, "metric": "cosine"}}},
                    deployment={"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"},
                    tags={"embedder": embedder_id},
                    timeout=-1,
                )
        is_waiting = retry_if_result(lambda found: not found.status.ready)
        try:
            waiting = Retrying(retry=is_waiting, wait=wait_fixed(1), stop=stop_after_delay(READY_TIMEOUT_S))
            return waiting(self._client.indexes.describe, self._name)
        except RetryError as error:
            raise StoreError(
                f"Pinecone's index {self._name!r} is {error.last_attempt.result().status.state} after "
                f"{READY_TIMEOUT_S:.0f} s, not ready. Check the index in Pinecone's console, or try again later."
            ) from error

    def _check(self, found: Any) -> None:
        dim, embedder_id = self._vectors
        field = found.schema.fields.get(VECTOR_FIELD)
        kept = (getattr(field, "dimension", None), getattr(field, "metric", None))
        # An index created manually has no tags; an index created by bankllm has a tag with the embedder.
        embedder = (found.tags or {}).get("embedder", embedder_id)
        if kept != (dim, "cosine") or embedder != embedder_id:
            raise IndexMismatch(
                f"Pinecone's index {self._name!r} holds vectors of {embedder} with dimension and metric {kept}; "
                f"expected {embedder_id} with {(dim, 'cosine')}. Set PINECONE_INDEX_NAME to another index."
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert the SDK's exceptions, by what helps; messages never contain the API key."""
        from pinecone import errors

        name = f"Pinecone (index {self._name!r})"
        try:
            yield
        except errors.UnauthorizedError as error:
            raise KeyRefused(f"{name} rejected the API key. Check PINECONE_API_KEY and the key's project.") from error
        except errors.ForbiddenError as error:
            raise KeyRefused(f"{name} denied the call ({error}). Check the key's permissions and the plan.") from error
        except (errors.PineconeConnectionError, errors.PineconeTimeoutError) as error:
            raise StoreError(f"{name} does not answer ({error}). Check the network and try again.") from error
        except errors.PineconeError as error:
            if getattr(error, "status_code", None) in REJECTED or isinstance(error, TypeError | ValueError):
                raise CallRefused(f"{name} rejected the call: {error}. Correct the value that it names.") from error
            raise StoreError(f"{name} failed: {error}. Try again later; check Pinecone's status page.") from error
