"""The assistant's memory: stores each customer's messages and replies, and searches them by meaning.

A search returns only messages of the customer or collection that it names.

with open_service(Path("memory.sqlite")) as memory:
    memory.for_user("CUST001").store("My card is lost", "I have frozen it.", "lost_or_stolen_card")
    memory.semantic_search("where is my card", user_id="CUST001")
    memory.collection("intents").add(["my card is gone"], metadata=[{"intent": "lost_or_stolen_card"}])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from bankllm.errors import UsageError
from bankllm.settings import Settings, get_settings
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.namespaces import Collection, CustomerMemory, Message, MessageId
from bankllm.vectors.pinecone.index import PineconeIndex
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from bankllm.vectors.rows import Match, Row
from bankllm.vectors.sqlite.file import BUSY_TIMEOUT_S
from bankllm.vectors.sqlite.store import SQLiteStore
from bankllm.vectors.store import ReplicationStats, VectorStore

__all__ = ["CustomerMemory", "Message", "MessageId", "ServiceStats", "VectorService", "open_service"]


@dataclass(frozen=True)
class ServiceStats:
    """Counters of the store and of the embedding cache, as returned by `VectorService.stats`."""

    store: str
    """`sqlite`, or `pinecone` if the SQLite file is replicated to Pinecone."""
    messages: int
    """Rows in this machine's file: messages of all customers plus texts of all collections."""
    embedder: str
    """The embedder's `model_id`: name and weight hash of the embedding model."""
    dim: int
    """Length of each vector."""
    cache_hits: int
    """Texts whose vector was cached, since the start."""
    cache_misses: int
    """Texts that the model embedded."""
    cache_hit_rate: float
    """Hits as a share of all texts; 0 before the first text."""
    cache_bytes: int
    """Current size of the embedding cache."""
    replication: ReplicationStats | None = None
    """State of the replication to Pinecone; None if the store is only in SQLite."""


class VectorService:
    """Customer memories and shared collections in a `VectorStore`, embedded by an `Embedder`.

    A search compares the query with the customer's messages; the reply and the intent are metadata of each match. All
    calls raise `UsageError` for invalid arguments and `StoreError` if the store fails. The class is thread-safe.
    """

    def __init__(self, store: VectorStore, embedder: Embedder) -> None:
        if (store.embedder_id, store.dim) != (embedder.model_id, embedder.dim):
            raise UsageError(
                f"The store holds vectors of {store.embedder_id} (dim {store.dim}), but the embedder is "
                f"{embedder.model_id} (dim {embedder.dim}). Open the store with this embedder's model_id and dim."
            )
        self.store = store
        self.embedder = embedder

    def for_user(self, user_id: str) -> CustomerMemory:
        """Return this customer's memory. Its calls cannot access another customer's rows."""
        return CustomerMemory(self.store, self.embedder, user_id)

    def collection(self, name: str) -> Collection:
        """Return a collection of texts that all customers share."""
        return Collection(self.store, self.embedder, name)

    def store_message(
        self,
        user_id: str,
        user_message: str,
        assistant_response: str,
        intent: str,
        *,
        vector: np.ndarray | None = None,
    ) -> MessageId:
        """Store one turn and return its id after the commit, see `CustomerMemory.store`."""
        return self.for_user(user_id).store(user_message, assistant_response, intent, vector=vector)

    def store_rows(self, rows: Sequence[tuple[str, Row]]) -> None:
        """Store (customer id, row) pairs in order, all or none. `CustomerMemory.row` makes the rows."""
        self.store.upsert_many([(user_id, [row]) for user_id, row in rows])

    def semantic_search(
        self,
        query: str,
        top_k: int = 5,
        *,
        user_id: str | None = None,
        collection: str | None = None,
        vector: np.ndarray | None = None,
    ) -> list[Match]:
        """Return the `top_k` nearest texts of one customer or one collection, see `CustomerMemory.search`."""
        if user_id is not None and collection is None:
            return self.for_user(user_id).search(query, top_k, vector=vector)
        if collection is not None and user_id is None:
            return self.collection(collection).search(query, top_k, vector=vector)
        raise UsageError(
            "Expected either a customer's memory or a shared collection to search, got "
            f"{'neither' if user_id is None else 'both'}. Give user_id='CUST001' or collection='intents'."
        )

    def recall(self, queries: Sequence[tuple[str, np.ndarray]], top_k: int = 5) -> list[list[Match]]:
        """Return, for each (customer, query embedding (dim,)) pair, the `top_k` nearest messages, best first."""
        return self.store.search_many([(self.for_user(user_id).user_id, vector) for user_id, vector in queries], top_k)

    def recent(self, user_id: str, limit: int) -> list[Message]:
        """Return this customer's latest `limit` turns, the newest first."""
        return self.for_user(user_id).recent(limit)

    def forget_user(self, user_id: str) -> None:
        """Delete all rows of this customer, see `CustomerMemory.forget`; an unknown customer is not an error."""
        self.for_user(user_id).forget()

    def export_user(self, user_id: str) -> list[dict[str, str]]:
        """Return all turns of this customer, oldest first, as JSON-serialisable dicts without the vectors."""
        return self.for_user(user_id).export()

    def stats(self) -> ServiceStats:
        """Return the current counters."""
        counts = self.embedder.counts
        return ServiceStats(
            store=self.store.kind,
            messages=self.store.count(),
            embedder=self.embedder.model_id,
            dim=self.embedder.dim,
            cache_hits=counts.hits,
            cache_misses=counts.misses,
            cache_hit_rate=counts.hit_rate,
            cache_bytes=self.embedder.cache_bytes,
            replication=self.replication(),
        )

    def replication(self) -> ReplicationStats | None:
        """Return the state of the replication to Pinecone; None if the store is only in SQLite."""
        return self.store.replication()

    def backlog(self) -> tuple[int, float]:
        """Return the number of changes not yet sent to Pinecone and the age of the oldest one in seconds."""
        replication = self.replication()
        return (replication.outbox_depth, replication.oldest_s) if replication else (0, 0.0)

    def close(self) -> None:
        """Close the store; a second call has no effect."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_service(
    path: Path | None = None,
    settings: Settings | None = None,
    *,
    embedder: Embedder | None = None,
    wait_s: float = BUSY_TIMEOUT_S,
) -> VectorService:
    """Open or create the store in the SQLite file `path`; None keeps it in memory and loses it on close.

    If `PINECONE_API_KEY` is set, the file is replicated to Pinecone and searches also find rows of other machines.
    A call waits up to `wait_s` seconds for other threads and processes that use the file. Raises `StoreError` if the
    file or the Pinecone index belongs to another embedder or cannot be used. A Pinecone outage is not an error: the
    service opens on the local file.
    """
    settings = settings or get_settings()
    embedder = embedder or Embedder(settings=settings)
    dim, model_id = embedder.dim, embedder.model_id
    if settings.pinecone_api_key is None:
        return VectorService(SQLiteStore(path, dim, model_id, wait_s=wait_s), embedder)
    key, index, layout = settings.pinecone_api_key, settings.pinecone_index_name, settings.pinecone_namespaces

    def connect() -> PineconeIndex:
        return PineconeIndex(key.get_secret_value(), index, dim, model_id, layout=layout, host=settings.pinecone_host)

    local = OutboxStore(path, dim, model_id, target=f"{index} ({layout})", wait_s=wait_s)
    return VectorService(ReplicatedStore(local, connect, layout), embedder)
