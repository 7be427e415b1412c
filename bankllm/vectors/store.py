"""`VectorStore`, the protocol of all vector stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from bankllm.vectors.filters import Filter
from bankllm.vectors.fusion import Mode
from bankllm.vectors.receipts import AskedBy, Receipt
from bankllm.vectors.rows import Match, Row


class Query(NamedTuple):
    """One search in one namespace."""

    namespace: str
    vector: np.ndarray
    """(dim,), or (1 + n, dim) for a long query and its n sentences: a row counts with the vector that fits best."""
    words: Sequence[str] = ()
    """The same as texts; dense search does not need them."""
    mode: Mode = "dense"
    where: Filter | None = None


@dataclass(frozen=True)
class ReplicationStats:
    """State of a replication: the first three fields describe the local file, the others this process."""

    outbox_depth: int
    """Changes not yet pushed."""
    oldest_s: float
    """Age of the oldest of these changes in seconds; 0 if there are none."""
    parked: int
    """Changes that were rejected permanently; the next process that opens the file tries them once."""
    pushed: int
    fallbacks: int
    """Calls that used only the local file, because the remote index failed or was late."""
    key_refused: bool
    last_error: str
    """The error of the last push; empty if it succeeded."""


class VectorStore(Protocol):
    """A call accesses only its own namespace; scores are cosine similarities.

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
        """Write all rows or none; a row with an existing id replaces the stored row. Returns when they are on disk."""
        self.upsert_many([(namespace, rows)])

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write rows of several namespaces: all or none."""

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Return up to `top_k` rows of the namespace that are nearest to a (dim,) vector, best first."""
        return self.search_many([Query(namespace, vector)], top_k)[0]

    def search_many(self, queries: Sequence[Query], top_k: int) -> list[list[Match]]:
        """Return up to `top_k` rows for each query, best first; the results have the same order."""

    def delete(self, namespace: str, ids: Sequence[str] | None = None, asked_by: AskedBy = "library") -> Receipt:
        """Delete the rows with these ids, or all rows of the namespace, and return the receipt."""

    def export(self, namespace: str) -> list[Row]:
        """Return all rows of a namespace, oldest first."""

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """Return the `limit` newest rows of a namespace, the newest first."""

    def count(self, namespace: str | None = None) -> int:
        """Return the number of rows of a namespace, or of all namespaces if None, in this machine's file."""

    def replication(self) -> ReplicationStats | None:
        """Return the state of the replication to a remote index; None if there is none."""
        return None

    def retain(self, namespace: str | None, ttl_s: float | None) -> None:
        """Let the rows of a namespace expire `ttl_s` seconds after they were written; None or infinity: never.

        It holds for stored rows and for later ones without a time to live of their own. Without a namespace it holds
        for all customers who have no time to live of their own. It is kept in this machine's file.
        """

    def sweep(self) -> int:
        """Delete the expired rows of all namespaces, which no call returns any more, and return their number."""
        return 0

    def close(self) -> None:
        """Close files and connections; the store cannot be used afterwards, a second call has no effect."""
