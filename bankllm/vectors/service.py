"""The assistant's memory: store what a customer said and was told, find it again by meaning, for that customer alone.

with open_service(Path("memory.sqlite")) as memory:
    memory.for_user("CUST001").store("My card is lost", "I have frozen it.", "lost_or_stolen_card")
    memory.semantic_search("where is my card", user_id="CUST001")
    memory.collection("intents").add(["my card is gone"], metadata=[{"intent": "lost_or_stolen_card"}])
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self, overload

import numpy as np

from bankllm.errors import UsageError
from bankllm.settings import Settings, get_settings
from bankllm.vectors.collection import Collection
from bankllm.vectors.customer import CustomerMemory, Message, MessageId
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.pinecone.replicated import ReplicatedStore, ReplicationStats
from bankllm.vectors.pinecone.store import PineconeStore
from bankllm.vectors.rows import Match
from bankllm.vectors.sqlite.connection import BUSY_TIMEOUT_S
from bankllm.vectors.sqlite.store import SQLiteStore, VectorStore

__all__ = ["CustomerMemory", "Message", "MessageId", "ServiceStats", "Turn", "VectorService", "open_service"]


class Turn(NamedTuple):
    """A message of one customer, ready to be kept."""

    user_id: str
    message: Message
    vector: np.ndarray
    """(dim,)"""


@dataclass(frozen=True)
class ServiceStats:
    """What `VectorService.stats` tells."""

    store: str
    """`sqlite`, or `pinecone` where the SQLite file replicates."""
    messages: int
    """Rows in the store: the customers' messages, and the texts of collections where there are any."""
    embedder: str
    dim: int
    cache_hits: int
    """Texts embedded without the model since the start: from memory and from the shared layer."""
    cache_hits_memory: int
    cache_hits_shared: int
    cache_misses: int
    cache_hit_rate: float
    """Share of all texts that needed no model; this and the next two are 0 before the first hit."""
    cache_memory_hit_rate: float
    """Share of all texts that this process's memory answered."""
    cache_shared_hit_rate: float
    """Share that the store's file answered, of the texts that memory did not."""
    cache_bytes: int
    """Of the layer in memory."""
    replication: ReplicationStats | None = None
    """How Pinecone keeps up with the file; None where the memory is in SQLite alone."""


class VectorService:
    """Messages by customer and shared collections in a `VectorStore`, embedded by an `Embedder`.

    A namespace holds one customer or one collection. A message is searched by what the customer wrote; reply and
    intent come with the match, as metadata. All calls raise `UsageError` for arguments that do not fit, and
    `StoreError` when the store fails. Safe to use from several threads; the server calls it in threads, which is why
    there is no async form.
    """

    def __init__(self, store: VectorStore, embedder: Embedder) -> None:
        if (store.embedder_id, store.dim) != (embedder.model_id, embedder.dim):
            raise UsageError(
                f"The store keeps vectors of {store.embedder_id} (dim {store.dim}), the embedder is "
                f"{embedder.model_id} (dim {embedder.dim}). Open the store with this embedder's model_id and dim."
            )
        self.store = store
        self.embedder = embedder

    def for_user(self, user_id: str) -> CustomerMemory:
        """This customer's memory, whose calls cannot name another customer."""
        return CustomerMemory(self.store, self.embedder, user_id)

    def collection(self, name: str) -> Collection:
        """Texts that all customers share, under a name of 1–128 printable ASCII characters without spaces."""
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
        """Keep one turn and return its id once it is kept, see `CustomerMemory.store`."""
        return self.for_user(user_id).store(user_message, assistant_response, intent, vector=vector)

    def store_many(
        self,
        user_id: str,
        messages: Sequence[Message],
        *,
        vectors: np.ndarray | None = None,
        progress: bool = False,
    ) -> list[MessageId]:
        """Keep one customer's turns in order, see `CustomerMemory.store_many`."""
        return self.for_user(user_id).store_many(messages, vectors=vectors, progress=progress)

    def store_turns(self, turns: Sequence[Turn]) -> list[MessageId]:
        """Keep turns of any customers, in order and at once: SQLite keeps all or none, by one commit."""
        rows = [(turn.user_id, self.for_user(turn.user_id).row(turn.message, turn.vector)) for turn in turns]
        self.store.upsert_many([(user_id, [row]) for user_id, row in rows])
        return [MessageId(row.id) for _, row in rows]

    @overload
    def semantic_search(
        self, query: str, top_k: int = 5, *, user_id: str, vector: np.ndarray | None = None
    ) -> list[Match]: ...

    @overload
    def semantic_search(
        self, query: str, top_k: int = 5, *, collection: str, vector: np.ndarray | None = None
    ) -> list[Match]: ...

    def semantic_search(
        self,
        query: str,
        top_k: int = 5,
        *,
        user_id: str | None = None,
        collection: str | None = None,
        vector: np.ndarray | None = None,
    ) -> list[Match]:
        """The `top_k` texts nearest in meaning, of this customer or of this collection, best first.

        `vector` (dim,) is the query's embedding where the caller has it already.
        """
        if user_id is not None and collection is None:
            return self.for_user(user_id).search(query, top_k, vector=vector)
        if collection is not None and user_id is None:
            return self.collection(collection).search(query, top_k, vector=vector)
        raise UsageError(
            "Expected either a customer's memory or a shared collection to search, got "
            f"{'neither' if user_id is None else 'both'}. Give user_id='CUST001' or collection='intents'."
        )

    def recall(self, queries: Sequence[tuple[str, np.ndarray]], top_k: int = 5) -> list[list[Match]]:
        """For each customer and (dim,) embedding of a query the `top_k` messages nearest in meaning, best first."""
        return self.store.search_many([(self.for_user(user_id).user_id, vector) for user_id, vector in queries], top_k)

    def recent(self, user_id: str, limit: int) -> list[Message]:
        """This customer's latest `limit` turns, the newest first."""
        return self.for_user(user_id).recent(limit)

    def forget_user(self, user_id: str) -> None:
        """Remove everything kept for this customer, see `CustomerMemory.forget`; one that is not known is no error."""
        self.for_user(user_id).forget()

    def export_user(self, user_id: str) -> list[dict[str, str]]:
        """All that is kept for this customer, oldest first, ready for JSON; the vectors are left out."""
        return self.for_user(user_id).export()

    def stats(self) -> ServiceStats:
        """Counts of this moment."""
        embedder, counts = self.embedder, self.embedder.counts
        return ServiceStats(
            store=self.store.kind,
            messages=self.store.count(),
            embedder=embedder.model_id,
            dim=embedder.dim,
            cache_hits=embedder.hits,
            cache_hits_memory=counts.memory,
            cache_hits_shared=counts.shared,
            cache_misses=embedder.misses,
            cache_hit_rate=counts.hit_rate,
            cache_memory_hit_rate=counts.memory_hit_rate,
            cache_shared_hit_rate=counts.shared_hit_rate,
            cache_bytes=embedder.memory.nbytes,
            replication=self.replication(),
        )

    def replication(self) -> ReplicationStats | None:
        """How Pinecone keeps up with the local file; None where the memory is in SQLite alone."""
        return self.store.replication() if isinstance(self.store, ReplicatedStore) else None

    def backlog(self) -> tuple[int, float]:
        """How many changes Pinecone was not told of yet, and for how many s the oldest of them waits."""
        replication = self.replication()
        return (replication.outbox_depth, replication.oldest_s) if replication else (0, 0.0)

    def close(self) -> None:
        """Close the store; a second call does nothing."""
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
    """Memory in the SQLite file `path` (None: lost on close), which replicates where `PINECONE_API_KEY` is set.

    Then searches find what other machines wrote too. A call of SQLite's waits up to `wait_s` for others that use the
    file, through which processes share embeddings too. Raises `StoreError` for a file or an index that does not fit;
    an outage of Pinecone's does not keep it shut.
    """
    settings = settings or get_settings()
    embedder = embedder or Embedder(settings=settings)
    dim, model_id = embedder.dim, embedder.model_id
    if settings.pinecone_api_key is None:
        sqlite = SQLiteStore(path, dim, model_id, wait_s=wait_s)
        return VectorService(sqlite, _sharing(embedder, sqlite, settings))
    key, index, layout = settings.pinecone_api_key, settings.pinecone_index_name, settings.pinecone_namespaces

    def connect() -> PineconeStore:
        secret = key.get_secret_value()
        return PineconeStore(secret, index, dim, model_id, layout=layout, host=settings.pinecone_host)

    local = OutboxStore(path, dim, model_id, target=f"{index} ({layout})", wait_s=wait_s)
    return VectorService(ReplicatedStore(local, connect, layout), _sharing(embedder, local, settings))


def _sharing(embedder: Embedder, store: SQLiteStore, settings: Settings) -> Embedder:
    """The embedder with the file's cache behind its own; a store in memory has nobody to share with."""
    store.embeddings.max_bytes = settings.embedding_cache_bytes
    return embedder.with_shared(None if store.path is None else store.embeddings)
