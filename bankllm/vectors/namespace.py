"""One namespace of a store with an embedder in front: what customers' memories and collections share."""

from collections.abc import Mapping, Sequence

import numpy as np

from bankllm.errors import UsageError
from bankllm.util.redaction import mask, mask_metadata
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.rows import Match, MetadataValue, Row
from bankllm.vectors.sqlite.store import VectorStore

MAX_TEXT_CHARACTERS = 4000
"""So that a message and its reply fit the 40 KB of metadata that Pinecone allows a record, in any script."""
MAX_NAME_CHARACTERS = 128


class Namespace:
    """Texts of one namespace. Who holds it can reach no other one."""

    def __init__(self, store: VectorStore, embedder: Embedder, namespace: str) -> None:
        self.store = store
        self.embedder = embedder
        self.namespace = namespace

    def write(
        self,
        ids: Sequence[str],
        texts: Sequence[str],
        metadata: Sequence[Mapping[str, MetadataValue]],
        vectors: np.ndarray | Sequence[np.ndarray] | None,
        progress: bool,
    ) -> None:
        """Store checked texts with account numbers masked, one id and one metadata mapping per text.

        `vectors` (n, dim) are the texts' embeddings if the caller has them; a masked text is always embedded again.
        """
        if vectors is None:
            texts = [mask(text) for text in texts]
            # Not in the shared cache: the rows hold these vectors, and bulk writes would evict popular queries.
            vectors = self.embedder.encode(texts, progress, share=False)
        if len(vectors) != len(texts):
            raise UsageError(
                f"Expected one vector a text: {len(texts)} texts, {len(vectors)} vectors. Give as many of each."
            )
        rows = [
            self.row(id_, text, vector, about)
            for id_, text, vector, about in zip(ids, texts, vectors, metadata, strict=True)
        ]
        if rows:
            self.store.upsert(self.namespace, rows)

    def row(self, id_: str, text: str, vector: np.ndarray, metadata: Mapping[str, MetadataValue]) -> Row:
        """A row with account numbers masked in text and metadata; `vector` (dim,) is the embedding of `text`."""
        masked = mask(text)
        if masked != text:
            vector = self.embedder.encode([masked], share=False)[0]
        return Row(id_, masked, vector, mask_metadata(metadata))

    def search(self, query: str, top_k: int, vector: np.ndarray | None) -> list[Match]:
        """The `top_k` texts nearest to the query, best first; `vector` (dim,) is its embedding where it is at hand."""
        check_text("query", query)
        if vector is None:
            vector = self.embedder.encode([query])[0]
        return self.store.search(self.namespace, vector, top_k)

    def forget(self, ids: Sequence[str] | None = None) -> None:
        """Remove the rows with these ids, or all, and what the embedder's cache holds of their texts."""
        chosen = None if ids is None else set(ids)
        rows = self.store.export(self.namespace)
        texts = dict.fromkeys(row.text for row in rows if chosen is None or row.id in chosen)
        try:
            self.embedder.forget(list(texts))
        finally:  # a cache that fails is told, and the rows go nevertheless
            self.store.delete(self.namespace, ids)


def check_name(what: str, name: str) -> None:
    """Raises `UsageError` unless it is 1–128 printable ASCII characters without a space, and not `__default__`."""
    fits = isinstance(name, str) and 1 <= len(name) <= MAX_NAME_CHARACTERS
    if not fits or not all("!" <= character <= "~" for character in name) or name == "__default__":
        raise UsageError(
            f"Expected a {what} of 1–{MAX_NAME_CHARACTERS} printable ASCII characters without spaces (and not "
            f"'__default__', which Pinecone shares between customers), got {str(name)[:40]!r}."
        )


def check_text(name: str, text: str) -> None:
    """Raises `UsageError` for a text that is empty, too long, or no Unicode."""
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{name} is empty: expected 1–{MAX_TEXT_CHARACTERS} characters of text.")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise UsageError(
            f"{name} has {len(text)} characters: expected at most {MAX_TEXT_CHARACTERS}; shorten or split it."
        )
