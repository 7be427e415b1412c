"""The assistant's memory: stores each customer's messages and replies, and searches them by meaning.

A search returns only messages of the customer or collection that it names.

with open_service(Path("memory.sqlite")) as memory:
    memory.for_user("CUST001").store("My card is lost", "I have frozen it.", "lost_or_stolen_card")
    memory.semantic_search("where is my card", user_id="CUST001")
    memory.collection("intents").add(["my card is gone"], metadata=[{"intent": "lost_or_stolen_card"}])
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from bankllm.errors import UsageError
from bankllm.settings import Settings, get_settings
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.filters import Filter
from bankllm.vectors.fusion import Mode
from bankllm.vectors.namespaces import Collection, CustomerMemory, Message
from bankllm.vectors.pinecone.index import PineconeIndex
from bankllm.vectors.pinecone.replicated import ReplicatedStore
from bankllm.vectors.rows import Match, check_ttl
from bankllm.vectors.sqlite.file import BUSY_TIMEOUT_S
from bankllm.vectors.sqlite.store import SQLiteStore

__all__ = ["CustomerMemory", "Message", "VectorService", "open_service"]


class VectorService:
    """Customer memories and shared collections in a store, embedded by an `Embedder`.

    A search compares the query with the customer's messages; the reply and the intent are metadata of each match. All
    calls raise `UsageError` for invalid arguments and `StoreError` if the store fails. The class is thread-safe.
    """

    def __init__(self, store: SQLiteStore, embedder: Embedder, ttl_s: float | None = None) -> None:
        """`ttl_s` is how long customers' turns are kept, in seconds, unless the file says it; None: for ever."""
        check_ttl(ttl_s)
        if (store.embedder_id, store.dim) != (embedder.model_id, embedder.dim):
            raise UsageError(
                f"The store holds vectors of {store.embedder_id} (dim {store.dim}), but the embedder is "
                f"{embedder.model_id} (dim {embedder.dim}). Open the store with this embedder's model_id and dim."
            )
        self.store = store
        self.embedder = embedder
        self.ttl_s = ttl_s

    def for_user(self, user_id: str) -> CustomerMemory:
        """Return this customer's memory, whose calls cannot access another customer's rows."""
        return CustomerMemory(self.store, self.embedder, user_id, self.ttl_s)

    def collection(self, name: str) -> Collection:
        return Collection(self.store, self.embedder, name)

    def semantic_search(
        self,
        query: str,
        top_k: int = 5,
        *,
        user_id: str | None = None,
        collection: str | None = None,
        mode: Mode = "hybrid",
        where: Filter | Mapping[str, Any] | None = None,
        vector: np.ndarray | None = None,
    ) -> list[Match]:
        """Return the `top_k` best texts of one customer or one collection, see `CustomerMemory.search`."""
        if user_id is not None and collection is None:
            return self.for_user(user_id).search(query, top_k, mode=mode, where=where, vector=vector)
        if collection is not None and user_id is None:
            return self.collection(collection).search(query, top_k, mode=mode, where=where, vector=vector)
        raise UsageError(
            "Expected either a customer's memory or a shared collection to search, got "
            f"{'neither' if user_id is None else 'both'}. Give user_id='CUST001' or collection='intents'."
        )

    def backlog(self) -> tuple[int, float]:
        """Return number and greatest age, in seconds, of the changes that were not yet pushed to Pinecone."""
        return self.store.backlog()[:2] if isinstance(self.store, ReplicatedStore) else (0, 0.0)

    def sweep(self) -> int:
        """Delete expired rows and vectors, here and from the memory of this process; return the number of rows."""
        self.embedder.expire_cache()
        return self.store.sweep()

    def close(self) -> None:
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
    above = settings.approximate_above
    if settings.pinecone_api_key is None:
        store = SQLiteStore(path, dim, model_id, wait_s=wait_s, approximate_above=above)
        return VectorService(store, embedder, settings.memory_ttl_s)
    key, index = settings.pinecone_api_key, settings.pinecone_index_name

    def connect() -> PineconeIndex:
        return PineconeIndex(key.get_secret_value(), index, dim, model_id, host=settings.pinecone_host)

    target = f"{index} (customer)"  # one namespace per customer
    replicated = ReplicatedStore(path, dim, model_id, connect, target=target, wait_s=wait_s, approximate_above=above)
    return VectorService(replicated, embedder, settings.memory_ttl_s)
