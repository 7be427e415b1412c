"""The assistant's memory: store what a customer said and was told, find it again by meaning, for that customer alone.

with open_service(Path("memory.sqlite")) as memory:
    memory.store_message("CUST001", "My card is lost", "I have frozen it.", "lost_or_stolen_card")
    memory.semantic_search("where is my card", user_id="CUST001")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NewType, Self
from uuid import uuid4

import numpy as np

from bankllm.errors import UsageError
from bankllm.settings import Settings, get_settings
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.outbox import OutboxStore
from bankllm.vectors.pinecone_store import PineconeStore
from bankllm.vectors.replicated import ReplicatedStore, ReplicationStats
from bankllm.vectors.rows import Match, Row
from bankllm.vectors.sqlite_file import BUSY_TIMEOUT_S
from bankllm.vectors.store import SQLiteStore, VectorStore

MessageId = NewType("MessageId", str)

MAX_MESSAGE_CHARACTERS = 4000
"""So that a message and its reply fit the 40 KB of metadata that Pinecone allows a record, in any script."""
MAX_USER_ID_CHARACTERS = 128


@dataclass(frozen=True)
class Message:
    """One turn: what the customer wrote, and where there is one, the assistant's answer and the intent it saw."""

    user_message: str
    assistant_response: str = ""
    intent: str = ""
    conversation_id: str = ""

    def metadata(self) -> dict[str, str]:
        """What is kept beside the text and its vector."""
        kept = {"assistant_response": self.assistant_response, "intent": self.intent}
        return kept | ({"conversation_id": self.conversation_id} if self.conversation_id else {})


@dataclass(frozen=True)
class ServiceStats:
    """What `VectorService.stats` tells."""

    store: str
    """`sqlite`, or `pinecone` where the SQLite file replicates."""
    messages: int
    embedder: str
    dim: int
    cache_hits: int
    cache_misses: int
    cache_hit_rate: float
    """Share of texts embedded without the model since the start; 0 before the first."""
    cache_bytes: int
    replication: ReplicationStats | None = None
    """How Pinecone keeps up with the file; None where the memory is in SQLite alone."""


class VectorService:
    """Messages by customer in a `VectorStore`, embedded by an `Embedder`. A namespace holds one customer.

    A message is searched by what the customer wrote; reply and intent come with the match, as metadata.
    All calls raise `UsageError` for arguments that do not fit, and `StoreError` when the store fails.
    """

    def __init__(self, store: VectorStore, embedder: Embedder) -> None:
        if (store.embedder_id, store.dim) != (embedder.model_id, embedder.dim):
            raise UsageError(
                f"The store keeps vectors of {store.embedder_id} (dim {store.dim}), the embedder is "
                f"{embedder.model_id} (dim {embedder.dim}). Open the store with this embedder's model_id and dim."
            )
        self.store = store
        self.embedder = embedder

    def store_message(
        self,
        user_id: str,
        user_message: str,
        assistant_response: str,
        intent: str,
        *,
        vector: np.ndarray | None = None,
    ) -> MessageId:
        """Keep one turn and return its id once it is kept. `vector` (dim,) spares embedding the message again."""
        vectors = None if vector is None else np.asarray(vector)[None]
        return self.store_many(user_id, [Message(user_message, assistant_response, intent)], vectors=vectors)[0]

    def store_many(
        self,
        user_id: str,
        messages: Sequence[Message],
        *,
        vectors: np.ndarray | None = None,
        progress: bool = False,
    ) -> list[MessageId]:
        """Keep one customer's turns in order; `vectors` is (n, dim), one a message. SQLite keeps all or none."""
        check_user_id(user_id)
        for message in messages:
            _check_text("user_message", message.user_message)
            if message.assistant_response:
                _check_text("assistant_response", message.assistant_response)
        if vectors is None:
            vectors = self.embedder.encode([message.user_message for message in messages], progress)
        if len(vectors) != len(messages):
            raise UsageError(f"Expected one vector a message: {len(messages)} messages, {len(vectors)} vectors.")
        rows = [
            Row(
                id=uuid4().hex,
                text=message.user_message,
                vector=vector,
                metadata=message.metadata(),
            )
            for message, vector in zip(messages, vectors, strict=True)
        ]
        if rows:
            self.store.upsert(user_id, rows)
        return [MessageId(row.id) for row in rows]

    def semantic_search(
        self, query: str, top_k: int = 5, *, user_id: str, vector: np.ndarray | None = None
    ) -> list[Match]:
        """This customer's `top_k` messages nearest in meaning, best first; fewer where there are fewer.

        `vector` (dim,) is the query's embedding where the caller has it already.
        """
        check_user_id(user_id)
        _check_text("query", query)
        if vector is None:
            vector = self.embedder.encode([query])[0]
        return self.store.search(user_id, vector, top_k)

    def recent(self, user_id: str, limit: int) -> list[Message]:
        """This customer's latest `limit` turns, the newest first."""
        check_user_id(user_id)
        return [_message(row) for row in self.store.recent(user_id, limit)]

    def forget_user(self, user_id: str) -> None:
        """Remove everything kept for this customer; one that is not known is no error."""
        check_user_id(user_id)
        self.store.delete(user_id)

    def export_user(self, user_id: str) -> list[dict[str, str]]:
        """All that is kept for this customer, oldest first, ready for JSON; the vectors are left out."""
        check_user_id(user_id)
        return [
            {
                "message_id": row.id,
                "created_at": row.created_at,
                "user_message": row.text,
                **_message(row).metadata(),
            }
            for row in self.store.export(user_id)
        ]

    def stats(self) -> ServiceStats:
        """Counts of this moment."""
        return ServiceStats(
            store=self.store.kind,
            messages=self.store.count(),
            embedder=self.embedder.model_id,
            dim=self.embedder.dim,
            cache_hits=self.embedder.hits,
            cache_misses=self.embedder.misses,
            cache_hit_rate=self.embedder.hit_rate,
            cache_bytes=self.embedder.cached_bytes,
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
        """Close the store."""
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
    file. Raises `StoreError` for a file or an index that does not fit; an outage of Pinecone's does not keep it shut.
    """
    settings = settings or get_settings()
    embedder = embedder or Embedder(settings=settings)
    dim, model_id = embedder.dim, embedder.model_id
    if settings.pinecone_api_key is None:
        return VectorService(SQLiteStore(path, dim, model_id, wait_s=wait_s), embedder)
    key, index, layout = settings.pinecone_api_key, settings.pinecone_index_name, settings.pinecone_namespaces

    def connect() -> PineconeStore:
        secret = key.get_secret_value()
        return PineconeStore(secret, index, dim, model_id, layout=layout, host=settings.pinecone_host)

    local = OutboxStore(path, dim, model_id, target=f"{index} ({layout})", wait_s=wait_s)
    return VectorService(ReplicatedStore(local, connect, layout), embedder)


def _message(row: Row) -> Message:
    kept = {name: str(value) for name, value in row.metadata.items()}
    return Message(row.text, kept["assistant_response"], kept["intent"], kept.get("conversation_id", ""))


def check_user_id(user_id: str) -> None:
    """Raises `UsageError` unless it is 1–128 printable ASCII characters without a space, and not `__default__`."""
    fits = isinstance(user_id, str) and 1 <= len(user_id) <= MAX_USER_ID_CHARACTERS
    if not fits or not all("!" <= character <= "~" for character in user_id) or user_id == "__default__":
        raise UsageError(
            f"Expected a user_id of 1–{MAX_USER_ID_CHARACTERS} printable ASCII characters without spaces (and not "
            f"'__default__', which Pinecone shares between customers), got {str(user_id)[:40]!r}."
        )


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{name} is empty: expected 1–{MAX_MESSAGE_CHARACTERS} characters of text.")
    if len(text) > MAX_MESSAGE_CHARACTERS:
        raise UsageError(f"{name} has {len(text)} characters: expected at most {MAX_MESSAGE_CHARACTERS}; shorten it.")
