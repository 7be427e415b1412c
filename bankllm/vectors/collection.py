"""Texts that all customers share, such as the bank's knowledge or examples of its intents, searched by meaning.

intents = service.collection("intents")
intents.add(["my card is gone"], metadata=[{"intent": "lost_or_stolen_card"}])
intents.search("where is my card")[0].metadata["intent"]
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

import numpy as np

from bankllm.errors import UsageError
from bankllm.util.redaction import mask
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.namespace import Namespace, check_name, check_text
from bankllm.vectors.rows import Match, MetadataValue
from bankllm.vectors.sqlite.store import VectorStore

MAX_METADATA_BYTES = 20_000
"""As JSON; with the text it fits the 40 KB of metadata that Pinecone allows a record."""


class Collection:
    """A shared collection, in a namespace that no customer can have: a user id holds no space.

    All calls raise `UsageError` for arguments that do not fit, and `StoreError` when the store fails.
    """

    def __init__(self, store: VectorStore, embedder: Embedder, name: str) -> None:
        check_name("collection name", name)
        self.name = name
        self._namespace = Namespace(store, embedder, f"collection {name}")

    def add(
        self,
        texts: Sequence[str],
        ids: Sequence[str] | None = None,
        metadata: Sequence[Mapping[str, MetadataValue]] | None = None,
        vectors: np.ndarray | None = None,
        progress: bool = False,
    ) -> list[str]:
        """Keep n texts and return their ids, in order; a text whose id is there already replaces it.

        Without `ids` a text's id is a hash of it, so that adding it again doubles nothing. `metadata` is one mapping
        a text, `vectors` (n, dim).
        """
        if isinstance(texts, str):
            raise UsageError("add takes a list of texts, for example add(['my card is lost']).")
        for number, text in enumerate(texts):
            check_text(f"text {number}", text)
        given = [_id_of(text) for text in texts] if ids is None else list(ids)
        about = [{} for _ in texts] if metadata is None else list(metadata)
        counts = {"ids": len(given), "metadata": len(about), "vectors": len(texts if vectors is None else vectors)}
        for what, found in counts.items():
            if found != len(texts):
                raise UsageError(f"Expected {what} one a text: {len(texts)} texts, {found} {what}.")
        for number, item in enumerate(about):
            size = len(json.dumps(dict(item), ensure_ascii=False, default=str).encode(errors="replace"))
            if size > MAX_METADATA_BYTES:
                raise UsageError(
                    f"The metadata of text {number} take {size} bytes as JSON: expected at most {MAX_METADATA_BYTES}; "
                    "keep what is long elsewhere, and here where it lies."
                )
        if ids is not None and len(set(given)) < len(given):
            raise UsageError("Two texts have the same id: the later one would replace the other. Give distinct ids.")
        # The same text twice without ids is one entry; its last metadata count.
        last = {id_: number for number, id_ in enumerate(given)}
        self._namespace.write(
            list(last),
            [texts[number] for number in last.values()],
            [about[number] for number in last.values()],
            None if vectors is None else [vectors[number] for number in last.values()],
            progress,
        )
        return given

    def search(self, query: str, top_k: int = 5, *, vector: np.ndarray | None = None) -> list[Match]:
        """The `top_k` texts nearest in meaning, best first; fewer where there are fewer."""
        return self._namespace.search(query, top_k, vector)

    def count(self) -> int:
        """How many texts the collection holds."""
        return self._namespace.store.count(self._namespace.namespace)

    def clear(self) -> None:
        """Remove all texts of the collection, and their vectors from the embedder's cache."""
        self._namespace.forget()


def _id_of(text: str) -> str:
    return hashlib.sha256(mask(text).encode(errors="surrogatepass")).hexdigest()[:32]
