"""A store for several machines: each machine writes to its SQLite file, and all files replicate to one Pinecone index.

A write is acknowledged after it is committed to the file; a background thread pushes it to Pinecone (`OutboxWorker`). A
search merges Pinecone's matches with an exact search of the file. If both have a row, the file's version is used, so a
search finds the machine's own writes immediately. If Pinecone fails or is late, the search uses only the file and
`ReplicatedStore.fallbacks` increases; after several failures a circuit breaker skips Pinecone for `COOLDOWN_S`.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from pybreaker import CircuitBreaker, CircuitBreakerError

from bankllm.errors import StoreError, UsageError
from bankllm.vectors.fusion import DEPTH
from bankllm.vectors.pinecone.index import MAX_TOP_K, ForeignRecord, IndexMismatch, PineconeIndex
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.pinecone.outbox_worker import OutboxWorker
from bankllm.vectors.rows import Match, Query, Row
from bankllm.vectors.sqlite.deletion import AskedBy, Receipt

logger = logging.getLogger(__name__)

T = TypeVar("T")
SEARCH_S, EXPORT_S = 1.0, 30.0
"""Maximum time in seconds that a search and an export wait for Pinecone, including the SDK's retries."""
OPEN_S, DRAIN_S = 3.0, 5.0
"""Maximum time in seconds that opening waits for the index, and that `close` pushes the remaining entries."""
MAX_FAILURES, COOLDOWN_S = 3, 5.0
"""Consecutive failed or late calls after which Pinecone is skipped, and for how many seconds."""
MAX_CONCURRENCY = 16
"""Maximum number of concurrent calls to Pinecone."""


class ReplicatedStore(OutboxStore):
    """The local file, in which a call writes, counts and finds the newest rows, and the index of all machines."""

    remote = True

    def __init__(
        self,
        path: Path | None,
        dim: int,
        embedder_id: str,
        connect: Callable[[], PineconeIndex],
        *,
        search_s: float = SEARCH_S,
        **options: Any,
    ) -> None:
        """Open the file with the `options` of `OutboxStore`, and the index with `connect` in the background.

        After an outage the index is opened later. `search_s` is the deadline of Pinecone calls. Raises `IndexMismatch`
        if one is detected within `OPEN_S`.
        """
        super().__init__(path, dim, embedder_id, **options)
        self._search_s = search_s
        self._pool = ThreadPoolExecutor(MAX_CONCURRENCY, "pinecone")
        self._breaker = CircuitBreaker(
            MAX_FAILURES, COOLDOWN_S, exclude=[ForeignRecord, UsageError], throw_new_error_on_trip=False
        )
        self._lock = Lock()  # protects the two fields below
        self.fallbacks, self._failing = 0, False
        self._worker = OutboxWorker(self, connect)
        self._worker.connect_attempted.wait(OPEN_S)
        if isinstance(self._worker.last_error, IndexMismatch):
            mismatch = self._worker.last_error
            self.close()
            raise mismatch

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write all rows of all namespaces or none to the local disk; they are pushed in the background."""
        super().upsert_many(groups)
        self._worker.wake()

    def _search(self, query: Query, top_k: int, others: Sequence[Match] = ()) -> list[Match]:
        """Return the best rows of all machines; only of this file if Pinecone fails or is late.

        Words are found only in this file. Rows of other machines rank by meaning, by the whole query.
        """
        namespace = query.namespace
        before = self.pending_deletes(namespace)
        if query.mode != "lexical" and not before.whole_namespace:
            # Request more rows, because deleted and outdated ones are filtered out below.
            wanted = min(max(int(top_k), DEPTH if query.mode == "hybrid" else 0) + before.stale, MAX_TOP_K)
            if found := self._ask(lambda index: index.query(namespace, query.vector[0], wanted, query.where)):
                own = self.own_ids(namespace, [match.id for match in found])
                after = self.pending_deletes(namespace)  # read last: includes rows deleted since `own` was read
                hidden = before.ids | after.ids | own
                others = [] if after.whole_namespace else [match for match in found if match.id not in hidden]
        unique: dict[str, Match] = {}
        for match in super()._search(query, top_k, others):
            unique.setdefault(match.id, match)  # this machine may have written one of `others` meanwhile
        return list(unique.values())

    def delete(self, namespace: str, ids: Sequence[str] | None = None, asked_by: AskedBy = "library") -> Receipt:
        """Delete rows of all machines; other machines find them until Pinecone has applied the delete."""
        receipt = super().delete(namespace, ids, asked_by)
        self._worker.wake()
        return receipt

    def export(self, namespace: str) -> list[Row]:
        """Return all rows of a namespace, oldest first; only those of this file if Pinecone fails."""
        own, before = super().export(namespace), self.pending_deletes(namespace)
        if before.whole_namespace:
            return own
        known = self.own_ids(namespace) | before.ids
        others = self._ask(lambda index: index.export_without(namespace, known), EXPORT_S)
        after = self.pending_deletes(namespace)
        if not others or after.whole_namespace:
            return own
        hidden = after.ids | self.own_ids(namespace)
        return sorted([*own, *(row for row in others if row.id not in hidden)], key=lambda row: row.created_at)

    @property
    def last_error(self) -> BaseException | None:
        """The error of the last push, such as `KeyRefused`; None if it succeeded."""
        return self._worker.last_error

    def close(self) -> None:
        """Push remaining entries for at most `DRAIN_S`, then close; the rest is pushed after the file is reopened."""
        self._worker.close(DRAIN_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _ask(self, request: Callable[[PineconeIndex], T], deadline_s: float | None = None) -> T | None:
        """Return the result of `request`; None, and count a fallback, if it fails, is late or is skipped.

        Raises `ForeignRecord` and `UsageError`, because these are not outages.
        """
        deadline_s = deadline_s or self._search_s
        index, reason = self._worker.index, "there is no connection yet"
        if index is not None:
            try:
                with self._breaker.calling():
                    result = self._pool.submit(request, index).result(timeout=deadline_s)
            except CircuitBreakerError:
                reason = ""
            except TimeoutError:
                reason = f"no answer within {deadline_s:g} s"
            except ForeignRecord:
                raise
            except StoreError as error:
                reason = str(error)
            else:
                with self._lock:
                    recovered, self._failing = self._failing, False
                if recovered:
                    logger.info("Pinecone answers again; searches use it again.")
                return result
        with self._lock:
            self.fallbacks += 1
            first = bool(reason) and not self._failing
            self._failing |= first
        if first:
            logger.warning("Searches use only the local file until Pinecone answers: %s", reason)
        return None
