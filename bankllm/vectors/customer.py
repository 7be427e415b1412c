"""One customer's memory: all calls of a `CustomerMemory` access only the rows of that customer.

memory = service.for_user("CUST001")
memory.store("My card is lost", "I have frozen it.", "lost_or_stolen_card")
memory.search("where is my card")
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType
from uuid import uuid4

import numpy as np

from bankllm.vectors.embedder import Embedder
from bankllm.vectors.namespace import Namespace, check_name, check_text
from bankllm.vectors.rows import Match, Row
from bankllm.vectors.store import VectorStore

MessageId = NewType("MessageId", str)


@dataclass(frozen=True)
class Message:
    """One turn: the customer's message, and optionally the reply, the predicted intent and the conversation."""

    user_message: str
    assistant_response: str = ""
    intent: str = ""
    conversation_id: str = ""

    def metadata(self) -> dict[str, str]:
        """Return the metadata that is stored with the text and its vector."""
        kept = {"assistant_response": self.assistant_response, "intent": self.intent}
        return kept | ({"conversation_id": self.conversation_id} if self.conversation_id else {})


class CustomerMemory:
    """The stored turns of one customer. No method has a customer id argument, so none can access another customer.

    All calls raise `UsageError` for invalid arguments and `StoreError` if the store fails.
    """

    def __init__(self, store: VectorStore, embedder: Embedder, user_id: str) -> None:
        check_name("user_id", user_id)
        self._namespace = Namespace(store, embedder, user_id)

    @property
    def user_id(self) -> str:
        """The customer's id; read-only."""
        return self._namespace.namespace

    def store(
        self,
        user_message: str,
        assistant_response: str,
        intent: str,
        *,
        conversation_id: str = "",
        vector: np.ndarray | None = None,
    ) -> MessageId:
        """Store one turn and return its id after the commit.

        Pass `vector` (dim,) if the message is already embedded.
        """
        turn = Message(user_message, assistant_response, intent, conversation_id)
        return self.store_many([turn], vectors=None if vector is None else np.asarray(vector)[None])[0]

    def store_many(
        self, messages: Sequence[Message], *, vectors: np.ndarray | None = None, progress: bool = False
    ) -> list[MessageId]:
        """Store n turns in order and return their ids; SQLite stores all or none of them.

        `vectors` (n, dim) are the embeddings of the messages, if they are already computed.
        """
        for message in messages:
            _check(message)
        ids = [MessageId(uuid4().hex) for _ in messages]
        texts = [message.user_message for message in messages]
        self._namespace.write(ids, texts, [message.metadata() for message in messages], vectors, progress)
        return ids

    def row(
        self,
        user_message: str,
        assistant_response: str,
        intent: str,
        vector: np.ndarray,
        *,
        conversation_id: str = "",
    ) -> Row:
        """Make one turn a row for `VectorService.store_rows`, with a new id. `vector` (dim,) embeds `user_message`."""
        message = Message(user_message, assistant_response, intent, conversation_id)
        _check(message)
        return self._namespace.row(uuid4().hex, user_message, vector, message.metadata())

    def search(self, query: str, top_k: int = 5, *, vector: np.ndarray | None = None) -> list[Match]:
        """Return up to `top_k` messages that are nearest in meaning, best first.

        Pass `vector` (dim,) if the query is already embedded.
        """
        return self._namespace.search(query, top_k, vector)

    def recent(self, limit: int) -> list[Message]:
        """Return the latest `limit` turns, the newest first."""
        return [_message(row) for row in self._namespace.store.recent(self.user_id, limit)]

    def export(self) -> list[dict[str, str]]:
        """Return all turns, oldest first, as JSON-serialisable dicts without the vectors."""
        return [
            {
                "message_id": row.id,
                "created_at": row.created_at,
                "user_message": row.text,
                **_message(row).metadata(),
            }
            for row in self._namespace.store.export(self.user_id)
        ]

    def forget(self, message_ids: Sequence[str] | None = None) -> None:
        """Delete the messages with these ids, or all messages if `message_ids` is None; unknown ids are ignored.

        The same call deletes the vectors of these texts from the embedder's cache: from memory, from the store's file,
        and from the pending cache writes of other processes. Vectors of queries that were never stored may remain in
        the cache. Their keys are hashes of the text, and the cache does not record which customer sent them. A later
        query with the same text adds its vector to the cache again.
        """
        self._namespace.forget(message_ids)


def _check(message: Message) -> None:
    check_text("user_message", message.user_message)
    if message.assistant_response:
        check_text("assistant_response", message.assistant_response)


def _message(row: Row) -> Message:
    kept = {name: str(value) for name, value in row.metadata.items()}
    return Message(row.text, kept["assistant_response"], kept["intent"], kept.get("conversation_id", ""))
