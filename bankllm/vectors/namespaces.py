"""One customer's memory, and collections that all customers share: each object accesses only its own namespace.

All texts are stored with account numbers masked. All calls raise `UsageError` for invalid arguments and `StoreError` if
the store fails.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NewType
from uuid import uuid4

import numpy as np
from tqdm.auto import tqdm

from bankllm.errors import UsageError
from bankllm.util.redaction import mask, mask_metadata
from bankllm.vectors.chunking import Documents, is_below, read_documents
from bankllm.vectors.embedder import Embedder, embed_texts, query_parts
from bankllm.vectors.filters import Filter
from bankllm.vectors.fusion import Mode
from bankllm.vectors.rows import (
    COLLECTION,
    Match,
    MetadataValue,
    Query,
    Row,
    check_count,
    check_name,
    check_text,
    expiry,
)
from bankllm.vectors.sqlite.deletion import AskedBy, Receipt
from bankllm.vectors.sqlite.store import SQLiteStore

COMMIT_CHUNKS = 512
"""Chunks of documents per commit; after an interrupt, at most so many are embedded again."""
MAX_DOCUMENT_CHARACTERS, MAX_RECORD_BYTES = 16_000, 38_000
"""Limits of a query and of a text in a collection, and of such a text in UTF-8 with its metadata."""

MessageId = NewType("MessageId", str)
_Item = tuple[str, str, Mapping[str, MetadataValue]]
"""Id, text and metadata of a row."""


@dataclass(frozen=True)
class Message:
    """One turn: the customer's message, and optionally the reply, the predicted intent and the conversation."""

    user_message: str
    assistant_response: str = ""
    intent: str = ""
    conversation_id: str = ""
    question: str = ""
    """What the reply asks back, as JSON."""
    calls: str = ""
    """The look-ups that the reply shows, as JSON."""

    def check(self) -> None:
        """Raises `UsageError` if a text is too long, or the message is blank."""
        check_text("user_message", self.user_message)
        if self.assistant_response:
            check_text("assistant_response", self.assistant_response)

    def metadata(self) -> dict[str, str]:
        kept = {"assistant_response": self.assistant_response, "intent": self.intent}
        more = {"conversation_id": self.conversation_id, "question": self.question, "calls": self.calls}
        return kept | {name: text for name, text in more.items() if text}


@dataclass(frozen=True)
class Indexed:
    """What `Collection.add_documents` did."""

    chunks: int
    """Chunks of the documents that could be read."""
    added: int
    removed: int
    documents: Documents


class _Namespace:
    """The texts of one namespace; no method can access another namespace."""

    def __init__(self, store: SQLiteStore, embedder: Embedder, namespace: str, ttl_s: float | None = None) -> None:
        self._store, self._embedder, self._name, self._ttl_s = store, embedder, namespace, ttl_s

    def search(
        self,
        query: str,
        top_k: int = 5,
        *,
        mode: Mode = "hybrid",
        where: Filter | Mapping[str, Any] | None = None,
        vector: np.ndarray | None = None,
    ) -> list[Match]:
        """Return up to `top_k` texts, best first. `vector` (dim,) is the query's embedding.

        `hybrid` fuses the rankings by meaning (`dense`) and by words (`lexical`), see `fusion`. A long query is also
        searched sentence by sentence, unless its vector is given. `where` is a `Filter` or a mapping with its fields.
        Every character of the query is part of a word or between words; there are no operators.
        """
        check_text("query", query, MAX_DOCUMENT_CHARACTERS)
        wanted = Filter.parse(where)
        parts = [query] if vector is not None else query_parts(query)
        vectors = self._embedder.encode(parts) if vector is None else np.asarray(vector)[None]
        return self._store.search_many([Query(self._name, vectors, parts, mode, wanted)], top_k)[0]

    def _rows(
        self,
        items: Sequence[_Item],
        vectors: np.ndarray | Sequence[np.ndarray] | None,
        progress: bool = False,
        ttl_s: float | None = None,
    ) -> list[Row]:
        """Return masked rows. A vector of a text that masking changes is replaced by that of the masked text."""
        default = ttl_s is None
        expires_at = expiry(self._ttl_s if default else ttl_s)  # checks it before the texts are embedded
        texts = [mask(text) for _, text, _ in items]
        known = {} if vectors is None else dict(enumerate(vectors))
        missing = [number for number, item in enumerate(items) if number not in known or item[1] != texts[number]]
        if missing:
            new = embed_texts(partial(self._embedder.encode, progress=progress), [texts[number] for number in missing])
            known.update(zip(missing, new, strict=True))
        return [
            Row(id_, text, known[n], mask_metadata(metadata), expires_at=expires_at, expires_by_default=default)
            for n, ((id_, _, metadata), text) in enumerate(zip(items, texts, strict=True))
        ]

    def forget(self, ids: Sequence[str] | None = None, *, asked_by: AskedBy = "library") -> Receipt:
        """Delete the texts with these ids, or all texts, and return the receipt; unknown ids are only counted.

        This process also deletes all its cached vectors; other processes do within `embedder.TTL_S`.
        """
        try:
            return self._store.delete(self._name, ids, asked_by)
        finally:
            self._embedder.clear_cache()


class CustomerMemory(_Namespace):
    """The stored turns of one customer. No method has a customer id argument, so none can access another customer."""

    def __init__(self, store: SQLiteStore, embedder: Embedder, user_id: str, ttl_s: float | None = None) -> None:
        """The turns are kept for the seconds that the call which stores them says, else those that the file says
        (`SQLiteStore.retain`), else `ttl_s`.
        """
        check_name("user_id", user_id)
        super().__init__(store, embedder, user_id, ttl_s)

    def store(
        self,
        user_message: str,
        assistant_response: str,
        intent: str,
        *,
        conversation_id: str = "",
        vector: np.ndarray | None = None,
        ttl_s: float | None = None,
    ) -> MessageId:
        """Store one turn and return its id after the commit; see `store_many`. `vector` (dim,) embeds the message."""
        turn = Message(user_message, assistant_response, intent, conversation_id)
        return self.store_many([turn], vectors=None if vector is None else np.asarray(vector)[None], ttl_s=ttl_s)[0]

    def store_many(
        self,
        messages: Sequence[Message],
        *,
        vectors: np.ndarray | None = None,
        progress: bool = False,
        ttl_s: float | None = None,
    ) -> list[MessageId]:
        """Store n turns in order, all or none, and return their ids. `vectors` (n, dim) embed the messages.

        After `ttl_s` seconds no call returns the turns, and they are deleted. None: as this customer's other turns;
        `math.inf`: until they are deleted.
        """
        for message in messages:
            message.check()
        check_count("vectors", len(messages), vectors)
        ids = [MessageId(uuid4().hex) for _ in messages]
        items = [(id_, turn.user_message, turn.metadata()) for id_, turn in zip(ids, messages, strict=True)]
        self._store.upsert(self._name, self._rows(items, vectors, progress, ttl_s))
        return ids

    def row(self, message: Message, vector: np.ndarray) -> Row:
        """Make one turn a row of `SQLiteStore.upsert_many`, with a new id. `vector` (dim,) embeds `user_message`."""
        message.check()
        return self._rows([(uuid4().hex, message.user_message, message.metadata())], [vector])[0]

    def recent(self, limit: int) -> list[Message]:
        """Return the latest `limit` turns, the newest first."""
        return [_message(row) for row in self._store.recent(self._name, limit)]

    def export(self) -> list[dict[str, str]]:
        """Return all turns, oldest first, as JSON-serialisable dicts without the vectors."""
        return [
            {"message_id": row.id, "created_at": row.created_at, "user_message": row.text, **_message(row).metadata()}
            for row in self._store.export(self._name)
        ]


class Collection(_Namespace):
    """Texts that all customers share."""

    def __init__(self, store: SQLiteStore, embedder: Embedder, name: str) -> None:
        check_name("collection name", name)
        super().__init__(store, embedder, COLLECTION + name)

    def add(
        self,
        texts: Sequence[str],
        metadata: Sequence[Mapping[str, MetadataValue]] | None = None,
        vectors: np.ndarray | None = None,
        progress: bool = False,
        ttl_s: float | None = None,
    ) -> list[str]:
        """Store n texts, with one mapping and one vector (n, dim) each, and return their ids, in order.

        An id is the text's hash, so equal texts are one row. After `ttl_s` seconds no call returns the texts, and they
        are deleted; None: they do not expire.
        """
        if isinstance(texts, str):
            raise UsageError("add expects a list of texts, got one str. Pass a list, as in add(['my card is lost']).")
        for number, text in enumerate(texts):
            check_text(f"text {number}", text, MAX_DOCUMENT_CHARACTERS)
        check_count("metadata", len(texts), metadata)
        check_count("vectors", len(texts), vectors)
        mappings = [{} for _ in texts] if metadata is None else metadata
        for number, item in enumerate(mappings):
            size = len(json.dumps(dict(item), ensure_ascii=False, default=str).encode(errors="replace"))
            if (size := size + len(texts[number].encode(errors="replace"))) > MAX_RECORD_BYTES:
                raise UsageError(
                    f"Text {number} and its metadata have {size} bytes: expected at most {MAX_RECORD_BYTES}. Split the "
                    "text, or store long values elsewhere."
                )
        ids = [_hash(text) for text in texts]
        kept = {id_: number for number, id_ in enumerate(ids)}  # of equal texts, the last one
        items = [(id_, texts[number], mappings[number]) for id_, number in kept.items()]
        chosen = None if vectors is None else vectors[list(kept.values())]
        self._store.upsert(self._name, self._rows(items, chosen, progress, ttl_s))
        return ids

    def add_documents(self, source: Path, progress: bool = False) -> Indexed:
        """Make the collection hold the chunks of a document, or of all documents in a folder; see `vectors.chunking`.

        Only chunks that changed are embedded and written; those that are gone are deleted, also if their file is gone.
        A document with a fault keeps its earlier chunks. An interrupted call is completed by the next one. Raises
        `DataError` if there are no documents or all have faults; nothing is changed then.
        """
        found = read_documents(source, progress)
        wanted = {}
        for chunk in found.chunks:
            id_ = _hash(f"{chunk.metadata['source']}\n{chunk.text}")
            wanted[id_] = (id_, chunk.text, mask_metadata(chunk.metadata))
        stored = {row.id: row for row in self._store.export(self._name) if is_below(source, row.metadata.get("source"))}
        new = [item for id_, item in wanted.items() if id_ not in stored]
        with tqdm(total=len(new), desc="index", unit="chunk", disable=not progress) as bar:
            for start in range(0, len(new), COMMIT_CHUNKS):
                self._store.upsert(self._name, self._rows(new[start : start + COMMIT_CHUNKS], None))
                bar.update(min(COMMIT_CHUNKS, len(new) - start))
        moved = [
            replace(stored[id_], metadata=metadata)  # the chunk has another number, page or title
            for id_, _, metadata in wanted.values()
            if id_ in stored and stored[id_].metadata != metadata
        ]
        self._store.upsert(self._name, moved)
        gone = [id_ for id_, row in stored.items() if id_ not in wanted and row.metadata["source"] not in found.faults]
        if gone:
            self.forget(gone)
        return Indexed(len(wanted), len(new), len(gone), found)

    def count(self) -> int:
        """Return the number of texts of the collection in this machine's file."""
        return self._store.count(self._name)


def _hash(text: str) -> str:
    """Return the id of a text, which tells nothing about its account numbers."""
    return hashlib.sha256(mask(text).encode(errors="surrogatepass")).hexdigest()[:32]


def _message(row: Row) -> Message:
    kept = {name: str(value) for name, value in row.metadata.items()}
    more = (kept.get(name, "") for name in ("conversation_id", "question", "calls"))
    return Message(row.text, kept["assistant_response"], kept["intent"], *more)
