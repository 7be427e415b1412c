"""The memory of several machines: each keeps its own writes in a SQLite file, and all of them meet in Pinecone.

A write is acknowledged once the file has it; a thread tells Pinecone (`pusher`). A search merges Pinecone's answer
with an exact one over the file, whose rows count where both have them, so that what was written a moment ago is found.
Where Pinecone fails or is late, the file answers alone, and `stats` counts it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bankllm.errors import StoreError
from bankllm.settings import PineconeNamespaces
from bankllm.vectors.pinecone.client import PineconeClient
from bankllm.vectors.pinecone.conversion import record_location
from bankllm.vectors.pinecone.errors import IndexMismatch, KeyRefused
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.pinecone.outbox_worker import OutboxWorker
from bankllm.vectors.pinecone.store import MAX_TOP_K, PineconeStore
from bankllm.vectors.rows import Match, Row, check_namespace, check_top_k, unit_vector

SEARCH_S = 1.0
"""How long a call waits for Pinecone, the SDK's repeated attempts included."""
EXPORT_S = 30.0
"""The same for an export, which fetches whole rows and for which nobody sits and waits."""
OPEN_S = 3.0
"""How long opening waits for Pinecone, to find out about an index that does not fit."""
DRAIN_S = 5.0


@dataclass(frozen=True)
class ReplicationStats:
    """How replication goes: `outbox_depth`, `oldest_s` and `parked` for the file, the others for this process."""

    outbox_depth: int
    """Changes that Pinecone has still to be told of."""
    oldest_s: float
    """Since when the oldest of them waits; 0 where none does."""
    parked: int
    """Changes that Pinecone refused for good."""
    pushed: int
    """Changes that this process told Pinecone of."""
    fallbacks: int
    """Calls of this process that the local file answered alone."""
    key_refused: bool
    last_error: str
    """Why nothing can be pushed now; empty where all is well."""


class ReplicatedStore:
    """A `VectorStore` of a local file and a Pinecone index that other machines' files replicate to too."""

    kind = "pinecone"

    def __init__(
        self,
        local: OutboxStore,
        connect: Callable[[], PineconeStore],
        layout: PineconeNamespaces,
        search_s: float = SEARCH_S,
    ) -> None:
        """Takes `local` over, and opens the index with `connect`, whenever that is to be had.

        Raises `IndexMismatch` where the index turns out not to fit within `OPEN_S`.
        """
        self.dim = local.dim
        self.embedder_id = local.embedder_id
        self._local = local
        self._layout = layout
        self._client = PineconeClient(connect, search_s)
        self._outbox_worker = OutboxWorker(local, self._client)
        self._outbox_worker.tried.wait(OPEN_S)
        if isinstance(self._outbox_worker.last_error, IndexMismatch):
            mismatch = self._outbox_worker.last_error
            self.close()
            raise mismatch

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write all rows or none. Returns once they are on the local disk; Pinecone is told in the background."""
        self.upsert_many([(namespace, rows)])

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write all rows of all namespaces or none, as `upsert` does."""
        for namespace, rows in groups:
            place = record_location(namespace, self._layout)
            for row in rows:
                place.id_of(row.id)
        self._local.upsert_many(groups)
        self._outbox_worker.wake()

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """The nearest rows of all machines by cosine; of this file alone where Pinecone fails or is late.

        The file's rows are searched exactly, and what was deleted here is not found, whatever Pinecone still holds.
        """
        check_namespace(namespace)
        check_top_k(top_k)
        query = unit_vector(vector, self.dim)
        before = self._local.gone(namespace)
        # So many more that rows which are gone or out of date there leave room for those that are not.
        wanted = min(int(top_k) + before.stale, MAX_TOP_K)
        found = None if before.whole else self._client.call(lambda store: store.find(namespace, query, wanted))
        matches = self._local.search(namespace, query, top_k)
        if found is None:
            return matches
        own = self._local.own_ids(namespace, [match.id for match in found.matches])
        after = self._local.gone(namespace)  # read last: a row that has left `own` meanwhile is in it
        if after.whole:
            return matches
        if after.lsn is not None and found.indexed is not None and found.indexed >= after.lsn:
            self._outbox_worker.saw_indexed(namespace, found.indexed)
        hidden = before.ids | after.ids | own
        others = [match for match in found.matches if match.id not in hidden]
        return sorted([*matches, *others], key=lambda match: -match.score)[:top_k]

    def search_many(self, queries: Sequence[tuple[str, np.ndarray]], top_k: int) -> list[list[Match]]:
        """`search` for each, one after the other."""
        return [self.search(namespace, vector, top_k) for namespace, vector in queries]

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Remove rows, other machines' too. They are found here no more at once, elsewhere once Pinecone was told."""
        self._local.delete(namespace, ids)
        self._outbox_worker.wake()

    def export(self, namespace: str) -> list[Row]:
        """All rows of a namespace, oldest first; those of this file alone where Pinecone fails (logged, counted)."""
        return self._with_others(self._local.export(namespace), namespace, EXPORT_S)

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """The `limit` rows written last, the newest first; of this file alone where Pinecone fails or is late.

        Pinecone has no order, so that all rows of other machines are fetched.
        """
        own = self._local.recent(namespace, limit)[::-1]
        return self._with_others(own, namespace, self._client.deadline_s)[::-1][:limit]

    def count(self, namespace: str | None = None) -> int:
        """How many rows a namespace holds, or all machines together; of this file alone where Pinecone fails.

        Pinecone's own count may lag behind the writes, and after another process has pushed, for a moment this does.
        """
        until = time.monotonic() + self._client.deadline_s
        if namespace is not None and self._local.gone(namespace).whole:
            return self._local.counts(namespace)[0]
        if not self._outbox_worker.turn.acquire(timeout=self._client.deadline_s):
            self._client.late()
            return self._local.counts(namespace)[0]
        try:
            there = self._client.call(lambda store: store.count(namespace), max(0.01, until - time.monotonic()))
            here, ours_there = self._local.counts(namespace)
        finally:
            self._outbox_worker.turn.release()
        return here + max(0, there - ours_there) if there is not None else here

    def replication(self) -> ReplicationStats:
        """How replication goes at this moment; asks the local file alone."""
        backlog, last_error = self._local.backlog(), self._outbox_worker.last_error
        return ReplicationStats(
            outbox_depth=backlog.depth,
            oldest_s=backlog.oldest_s,
            parked=backlog.parked,
            pushed=self._outbox_worker.pushed,
            fallbacks=self._client.fallbacks,
            key_refused=isinstance(last_error, KeyRefused),
            last_error=str(last_error or ""),
        )

    def drain(self, timeout_s: float) -> None:
        """Wait until Pinecone was told everything. Raises `StoreError` where it takes longer."""
        until = time.monotonic() + timeout_s
        while depth := self._local.backlog().depth:
            if time.monotonic() > until:
                raise StoreError(
                    f"{depth} changes were not pushed to Pinecone within {timeout_s:g} s. "
                    f"{self._outbox_worker.last_error or ''} They stay in the outbox; wait longer."
                )
            time.sleep(0.02)

    def close(self) -> None:
        """Push what is left, for `DRAIN_S` at most, then close; the rest is pushed when the file is opened again."""
        self._outbox_worker.close(DRAIN_S)
        self._client.close()
        self._local.close()

    def _with_others(self, own: list[Row], namespace: str, deadline_s: float) -> list[Row]:
        """The file's rows, and those that Pinecone alone has, oldest first."""
        before = self._local.gone(namespace)
        if before.whole:
            return own
        known = self._local.own_ids(namespace) | before.ids
        others = self._client.call(lambda store: store.export_without(namespace, known), deadline_s)
        after = self._local.gone(namespace)
        if not others or after.whole:
            return own
        hidden = after.ids | self._local.own_ids(namespace)
        others = [row for row in others if row.id not in hidden]
        return sorted([*own, *others], key=lambda row: row.created_at) if others else own
