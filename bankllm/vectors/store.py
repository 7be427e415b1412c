"""`VectorStore`, the protocol of all vector stores."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bankllm.vectors.rows import Match, Row


class VectorStore(Protocol):
    """Protocol of a vector store. A call accesses only its own namespace; scores are cosine similarities.

    Invalid arguments raise `UsageError`; a store that cannot be read or written raises `StoreError`.
    """

    kind: str
    """`sqlite` or `pinecone`."""
    remote: bool
    """Whether calls may wait for another machine; their time is then not that of a local search."""
    dim: int
    """Length of each vector."""
    embedder_id: str
    """`model_id` of the embedder whose vectors the store holds."""

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write rows; a row with an existing id replaces the stored row. Returns after the rows are stored."""

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """`upsert` for rows of several namespaces."""

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Return up to `top_k` rows of the namespace that are nearest to a (dim,) vector, best first."""

    def search_many(self, queries: Sequence[tuple[str, np.ndarray]], top_k: int) -> list[list[Match]]:
        """Run `search` for several (namespace, vector) pairs; the results have the same order."""

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Delete the rows with these ids, or all rows of the namespace; unknown ids are ignored."""

    def export(self, namespace: str) -> list[Row]:
        """Return all rows of a namespace, oldest first."""

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """Return the `limit` newest rows of a namespace, the newest first."""

    def count(self, namespace: str | None = None) -> int:
        """Return the number of rows of a namespace, or of the whole store if None."""

    def close(self) -> None:
        """Close files and connections; the store cannot be used afterwards."""
