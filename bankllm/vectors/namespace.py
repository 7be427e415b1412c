"""One namespace of a store with its embedder: shared code of `CustomerMemory` and `Collection`.

All texts are stored with account numbers masked.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bankllm.errors import UsageError
from bankllm.util.redaction import mask, mask_metadata
from bankllm.vectors.embedder import Embedder
from bankllm.vectors.rows import Match, MetadataValue, Row
from bankllm.vectors.store import VectorStore

MAX_TEXT_CHARACTERS = 4000
"""Maximum length of a text. A message and its reply then fit Pinecone's limit of 40 KB of metadata per record, in any
script."""
MAX_NAME_CHARACTERS = 128
"""Maximum length of a user id or collection name."""


class Namespace:
    """Write, search and delete the texts of one namespace. No method can access another namespace."""

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
                f"Expected one vector per text, got {len(texts)} texts, {len(vectors)} vectors. Pass as many vectors "
                "as texts."
            )
        rows = [
            self.row(id_, text, vector, mapping)
            for id_, text, vector, mapping in zip(ids, texts, vectors, metadata, strict=True)
        ]
        if rows:
            self.store.upsert(self.namespace, rows)

    def row(self, id_: str, text: str, vector: np.ndarray, metadata: Mapping[str, MetadataValue]) -> Row:
        """Return a row with account numbers masked in text and metadata.

        `vector` (dim,) is the embedding of `text`; if masking changes the text, the masked text is embedded again.
        """
        masked = mask(text)
        if masked != text:
            vector = self.embedder.encode([masked], share=False)[0]
        return Row(id_, masked, vector, mask_metadata(metadata))

    def search(self, query: str, top_k: int, vector: np.ndarray | None) -> list[Match]:
        """Return up to `top_k` texts nearest to the query, best first.

        Pass `vector` (dim,) if the query is already embedded.
        """
        check_text("query", query)
        if vector is None:
            vector = self.embedder.encode([query])[0]
        return self.store.search(self.namespace, vector, top_k)

    def forget(self, ids: Sequence[str] | None = None) -> None:
        """Delete the rows with these ids, or all rows, and the cached vectors of their texts."""
        selected = None if ids is None else set(ids)
        rows = self.store.export(self.namespace)
        texts = dict.fromkeys(row.text for row in rows if selected is None or row.id in selected)
        try:
            self.embedder.forget(list(texts))
        finally:  # delete the rows even if the cache fails; the error is still raised
            self.store.delete(self.namespace, ids)


def check_name(what: str, name: str) -> None:
    """Raises `UsageError` unless `name` has 1–128 printable ASCII characters without spaces and is not `__default__`.

    `what` is the name's role in the error message, such as `user_id`.
    """
    valid = isinstance(name, str) and 1 <= len(name) <= MAX_NAME_CHARACTERS
    if not valid or not all("!" <= character <= "~" for character in name) or name == "__default__":
        raise UsageError(
            f"Expected a {what} of 1–{MAX_NAME_CHARACTERS} printable ASCII characters without spaces (and not "
            f"'__default__', Pinecone's default namespace), got {str(name)[:40]!r}. Use another name."
        )


def check_text(name: str, text: str) -> None:
    """Raises `UsageError` if the argument `name` is not a str, is blank, or is longer than `MAX_TEXT_CHARACTERS`."""
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{name} is empty: expected 1–{MAX_TEXT_CHARACTERS} characters of text.")
    if len(text) > MAX_TEXT_CHARACTERS:
        raise UsageError(
            f"{name} has {len(text)} characters: expected at most {MAX_TEXT_CHARACTERS}. Shorten or split the text."
        )
