"""One customer's memory: every call stays with the customer it was opened for.

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
from bankllm.vectors.sqlite.store import VectorStore

MessageId = NewType("MessageId", str)


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


class CustomerMemory:
    """What one customer said and was told. No call takes a customer's id, so none can name another's.

    All calls raise `UsageError` for arguments that do not fit, and `StoreError` when the store fails.
    """

    def __init__(self, store: VectorStore, embedder: Embedder, user_id: str) -> None:
        check_name("user_id", user_id)
        self._namespace = Namespace(store, embedder, user_id)

    @property
    def user_id(self) -> str:
        """Whose memory this is."""
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
        """Keep one turn and return its id once it is kept. `vector` (dim,) spares embedding the message again."""
        turn = Message(user_message, assistant_response, intent, conversation_id)
        return self.store_many([turn], vectors=None if vector is None else np.asarray(vector)[None])[0]

    def store_many(
        self, messages: Sequence[Message], *, vectors: np.ndarray | None = None, progress: bool = False
    ) -> list[MessageId]:
        """Keep turns in order; `vectors` is (n, dim), one a message. SQLite keeps all or none."""
        for message in messages:
            _check(message)
        ids = [MessageId(uuid4().hex) for _ in messages]
        texts = [message.user_message for message in messages]
        self._namespace.write(ids, texts, [message.metadata() for message in messages], vectors, progress)
        return ids

    def row(self, message: Message, vector: np.ndarray) -> Row:
        """A turn as `VectorStore.upsert_many` keeps it, under an id of its own."""
        _check(message)
        return self._namespace.row(uuid4().hex, message.user_message, vector, message.metadata())

    def search(self, query: str, top_k: int = 5, *, vector: np.ndarray | None = None) -> list[Match]:
        """The `top_k` messages nearest in meaning, best first; fewer where there are fewer.

        `vector` (dim,) is the query's embedding where the caller has it already.
        """
        return self._namespace.search(query, top_k, vector)

    def recent(self, limit: int) -> list[Message]:
        """The latest `limit` turns, the newest first."""
        return [_message(row) for row in self._namespace.store.recent(self.user_id, limit)]

    def export(self) -> list[dict[str, str]]:
        """All that is kept, oldest first, ready for JSON; the vectors are left out."""
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
        """Remove these messages, or everything; unknown ids are no error.

        The vectors of their texts leave the embedder's cache in the same call: memory, file, and what other processes
        would still write. What may remain is what was only ever searched for and never stored, under a hash of its
        text; nothing there says whose it was. Anybody who asks the same text afterwards puts its vector there again.
        """
        self._namespace.forget(message_ids)


def _check(message: Message) -> None:
    check_text("user_message", message.user_message)
    if message.assistant_response:
        check_text("assistant_response", message.assistant_response)


def _message(row: Row) -> Message:
    kept = {name: str(value) for name, value in row.metadata.items()}
    return Message(row.text, kept["assistant_response"], kept["intent"], kept.get("conversation_id", ""))
