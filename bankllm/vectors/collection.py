"""Collections: texts that all customers share, such as FAQ entries or examples of intents, searched by meaning.

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
from bankllm.vectors.store import VectorStore

MAX_METADATA_BYTES = 20_000
"""Maximum size of one text's metadata as JSON. Together with the text it fits Pinecone's limit of 40 KB per record."""


class Collection:
    """A shared collection. Its namespace contains a space, which user ids cannot contain, so no customer can have it.

    All calls raise `UsageError` for invalid arguments and `StoreError` if the store fails.
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
        """Store n texts and return their ids, in order; a text with an existing id replaces the stored text.

        Without `ids`, the id of a text is its hash, so adding the same text again does not create a second row.
        `metadata` is one mapping per text. `vectors` (n, dim) are the embeddings, if they are already computed.
        """
        if isinstance(texts, str):
            raise UsageError("add expects a list of texts, got one str. Pass a list, as in add(['my card is lost']).")
        for number, text in enumerate(texts):
            check_text(f"text {number}", text)
        given = [_id_of(text) for text in texts] if ids is None else list(ids)
        mappings = [{} for _ in texts] if metadata is None else list(metadata)
        counts = {"ids": len(given), "metadata": len(mappings), "vectors": len(texts if vectors is None else vectors)}
        for what, found in counts.items():
            if found != len(texts):
                raise UsageError(
                    f"Expected the same number of {what} as texts: got {len(texts)} texts, {found} {what}. Pass one "
                    "per text."
                )
        for number, item in enumerate(mappings):
            size = len(json.dumps(dict(item), ensure_ascii=False, default=str).encode(errors="replace"))
            if size > MAX_METADATA_BYTES:
                raise UsageError(
                    f"The metadata of text {number} has {size} bytes as JSON: expected at most {MAX_METADATA_BYTES}. "
                    "Store long values elsewhere and put only a reference into the metadata."
                )
        if ids is not None and len(set(given)) < len(given):
            raise UsageError("Two texts have the same id; the later text would replace the other. Use distinct ids.")
        # Without ids, equal texts are one row; the last one's metadata and vector are stored.
        last = {id_: number for number, id_ in enumerate(given)}
        self._namespace.write(
            list(last),
            [texts[number] for number in last.values()],
            [mappings[number] for number in last.values()],
            None if vectors is None else [vectors[number] for number in last.values()],
            progress,
        )
        return given

    def search(self, query: str, top_k: int = 5, *, vector: np.ndarray | None = None) -> list[Match]:
        """Return up to `top_k` texts that are nearest in meaning, best first.

        Pass `vector` (dim,) if the query is already embedded.
        """
        return self._namespace.search(query, top_k, vector)

    def count(self) -> int:
        """Return the number of texts in the collection."""
        return self._namespace.store.count(self._namespace.namespace)

    def clear(self) -> None:
        """Delete all texts of the collection, and delete their vectors from the embedder's cache."""
        self._namespace.forget()


def _id_of(text: str) -> str:
    return hashlib.sha256(mask(text).encode(errors="surrogatepass")).hexdigest()[:32]
