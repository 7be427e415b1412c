"""A store for several machines: each machine writes to its SQLite file, and all files replicate to one Pinecone index.

A write is acknowledged after it is committed to the file; a background thread pushes it to Pinecone (`OutboxWorker`). A
search merges Pinecone's matches with an exact search of the file. If both have a row, the file's version is used, so a
search finds the machine's own writes immediately. If Pinecone fails or is late, the search uses only the file and
`ReplicationStats.fallbacks` increases.
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
"""Maximum time in seconds that a call waits for Pinecone, including the SDK's retries."""
EXPORT_S = 30.0
"""The same for an export, which fetches whole rows and is not interactive."""
OPEN_S = 3.0
"""Maximum time in seconds that opening waits for Pinecone, in order to detect a mismatching index."""
DRAIN_S = 5.0
"""Maximum time in seconds that `close` pushes the remaining entries."""


@dataclass(frozen=True)
class ReplicationStats:
    """State of replication: the first three fields describe the file, the others this process."""

    outbox_depth: int
    """Changes not yet pushed to Pinecone."""
    oldest_s: float
    """Age of the oldest of these changes in seconds; 0 if there are none."""
    parked: int
    """Changes that Pinecone rejected permanently."""
    pushed: int
    """Changes that this process has pushed to Pinecone."""
    fallbacks: int
    """Calls of this process that used only the local file, because Pinecone failed or was late."""
    key_refused: bool
    """The last push failed because Pinecone rejected the API key."""
    last_error: str
    """The error of the last push; empty if it succeeded."""


class ReplicatedStore:
    """A `VectorStore` of a local file and a Pinecone index, to which other machines also replicate their files."""

    kind = "pinecone"
    remote = True

    def __init__(
        self,
        local: OutboxStore,
        connect: Callable[[], PineconeStore],
        layout: PineconeNamespaces,
        search_s: float = SEARCH_S,
    ) -> None:
        """Use `local` (`close` closes it) and open the index with `connect` in the background.

        If Pinecone is unreachable, the index is opened later. `search_s` is the deadline of Pinecone calls in seconds.
        Raises `IndexMismatch` if a mismatch is detected within `OPEN_S`.
        """
        self.dim = local.dim
        self.embedder_id = local.embedder_id
        self._local = local
        self._layout = layout
        self._client = PineconeClient(connect, search_s)
        self._outbox_worker = OutboxWorker(local, self._client)
        self._outbox_worker.connect_attempted.wait(OPEN_S)
        if isinstance(self._outbox_worker.last_error, IndexMismatch):
            mismatch = self._outbox_worker.last_error
            self.close()
            raise mismatch

    def upsert(self, namespace: str, rows: Sequence[Row]) -> None:
        """Write all rows or none. Returns after they are on the local disk; they are pushed in the background."""
        self.upsert_many([(namespace, rows)])

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write all rows of all namespaces or none, as `upsert` does."""
        for namespace, rows in groups:
            location = record_location(namespace, self._layout)
            for row in rows:
                location.id_of(row.id)  # raises `UsageError` now; the push would fail later
        self._local.upsert_many(groups)
        self._outbox_worker.wake()

    def search(self, namespace: str, vector: np.ndarray, top_k: int) -> list[Match]:
        """Return the nearest rows of all machines by cosine; only of this file if Pinecone fails or is late.

        The search of the file is exact. Rows deleted on this machine are not returned, even if Pinecone still has them.
        """
        check_namespace(namespace)
        check_top_k(top_k)
        query = unit_vector(vector, self.dim)
        before = self._local.pending_deletes(namespace)
        # Request more rows, because deleted and outdated ones are filtered out below.
        wanted = min(int(top_k) + before.stale, MAX_TOP_K)
        found = (
            None if before.whole_namespace else self._client.call(lambda store: store.query(namespace, query, wanted))
        )
        matches = self._local.search(namespace, query, top_k)
        if found is None:
            return matches
        own = self._local.own_ids(namespace, [match.id for match in found.matches])
        after = self._local.pending_deletes(namespace)  # read last: includes rows deleted since `own` was read
        if after.whole_namespace:
            return matches
        if after.lsn is not None and found.indexed is not None and found.indexed >= after.lsn:
            self._outbox_worker.note_indexed(namespace, found.indexed)
        hidden = before.ids | after.ids | own
        others = [match for match in found.matches if match.id not in hidden]
        return sorted([*matches, *others], key=lambda match: -match.score)[:top_k]

    def search_many(self, queries: Sequence[tuple[str, np.ndarray]], top_k: int) -> list[list[Match]]:
        """Run `search` for each pair, sequentially."""
        return [self.search(namespace, vector, top_k) for namespace, vector in queries]

    def delete(self, namespace: str, ids: Sequence[str] | None = None) -> None:
        """Delete rows of all machines.

        Searches on this machine stop finding them at once, searches on others after Pinecone has applied the delete.
        """
        self._local.delete(namespace, ids)
        self._outbox_worker.wake()

    def export(self, namespace: str) -> list[Row]:
        """Return all rows of a namespace, oldest first; only those of this file if Pinecone fails (logged, counted)."""
        return self._with_others(self._local.export(namespace), namespace, EXPORT_S)

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """Return the `limit` newest rows, the newest first; only of this file if Pinecone fails or is late.

        Pinecone has no order, so all rows of other machines are fetched.
        """
        own = self._local.recent(namespace, limit)[::-1]
        return self._with_others(own, namespace, self._client.deadline_s)[::-1][:limit]

    def count(self, namespace: str | None = None) -> int:
        """Return the number of rows of a namespace, or of the store if None, on all machines.

        Counts only this file's rows if Pinecone fails or is late. Pinecone's count may lag behind its writes, and
        this count may briefly be wrong after another process has pushed.
        """
        until = time.monotonic() + self._client.deadline_s
        if namespace is not None and self._local.pending_deletes(namespace).whole_namespace:
            return self._local.counts(namespace)[0]
        if not self._outbox_worker.sync_lock.acquire(timeout=self._client.deadline_s):
            self._client.count_skipped()
            return self._local.counts(namespace)[0]
        try:
            remote = self._client.call(lambda store: store.count(namespace), max(0.01, until - time.monotonic()))
            local, pushed = self._local.counts(namespace)
        finally:
            self._outbox_worker.sync_lock.release()
        return local + max(0, remote - pushed) if remote is not None else local

    def replication(self) -> ReplicationStats:
        """Return the current state of replication; reads only the local file."""
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
        """Wait until all entries are pushed. Raises `StoreError` if that takes longer than `timeout_s` seconds."""
        until = time.monotonic() + timeout_s
        while depth := self._local.backlog().depth:
            if time.monotonic() > until:
                raise StoreError(
                    f"{depth} changes were not pushed to Pinecone within {timeout_s:g} s. "
                    f"{self._outbox_worker.last_error or ''} The changes stay in the outbox. Repeat the call to wait "
                    "longer."
                )
            time.sleep(0.02)

    def close(self) -> None:
        """Push remaining entries for at most `DRAIN_S`, then close; the rest is pushed after the file is reopened."""
        self._outbox_worker.close(DRAIN_S)
        self._client.close()
        self._local.close()

    def _with_others(self, own: list[Row], namespace: str, deadline_s: float) -> list[Row]:
        """Add the rows that only Pinecone has to the file's rows; return them oldest first."""
        before = self._local.pending_deletes(namespace)
        if before.whole_namespace:
            return own
        known = self._local.own_ids(namespace) | before.ids
        others = self._client.call(lambda store: store.export_without(namespace, known), deadline_s)
        after = self._local.pending_deletes(namespace)
        if not others or after.whole_namespace:
            return own
        hidden = after.ids | self._local.own_ids(namespace)
        others = [row for row in others if row.id not in hidden]
        return sorted([*own, *others], key=lambda row: row.created_at) if others else own
