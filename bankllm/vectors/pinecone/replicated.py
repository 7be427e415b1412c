"""A store for several machines: each machine writes to its SQLite file, and all files replicate to one Pinecone index.

A write is acknowledged after it is committed to the file; a background thread pushes it to Pinecone (`OutboxWorker`). A
search merges Pinecone's matches with an exact search of the file. If both have a row, the file's version is used, so a
search finds the machine's own writes immediately. If Pinecone fails or is late, the search uses only the file and
`ReplicationStats.fallbacks` increases; after several failures a circuit breaker skips Pinecone for `COOLDOWN_S`.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

from pybreaker import CircuitBreaker, CircuitBreakerError

from bankllm.errors import StoreError, UsageError
from bankllm.vectors.fusion import DEPTH
from bankllm.vectors.pinecone.index import MAX_TOP_K, ForeignRecord, IndexMismatch, KeyRefused, PineconeIndex
from bankllm.vectors.pinecone.outbox import OutboxStore
from bankllm.vectors.pinecone.outbox_worker import OutboxWorker
from bankllm.vectors.receipts import AskedBy, Receipt
from bankllm.vectors.rows import Match, Row, check_top_k
from bankllm.vectors.store import Query, ReplicationStats, VectorStore

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


class ReplicatedStore(VectorStore):
    kind = "pinecone"
    remote = True

    def __init__(self, local: OutboxStore, connect: Callable[[], PineconeIndex], search_s: float = SEARCH_S) -> None:
        """Own `local`, and open the index with `connect` in the background, after an outage later.

        `search_s` is the deadline of Pinecone calls. Raises `IndexMismatch` if one is detected within `OPEN_S`.
        """
        self.dim, self.embedder_id = local.dim, local.embedder_id
        self._local, self._search_s = local, search_s
        self._pool = ThreadPoolExecutor(MAX_CONCURRENCY, "pinecone")
        self._breaker = CircuitBreaker(
            MAX_FAILURES, COOLDOWN_S, exclude=[ForeignRecord, UsageError], throw_new_error_on_trip=False
        )
        self._lock = Lock()  # protects the two fields below
        self._fallbacks, self._failing = 0, False
        self._worker = OutboxWorker(local, connect)
        self._worker.connect_attempted.wait(OPEN_S)
        if isinstance(self._worker.last_error, IndexMismatch):
            mismatch = self._worker.last_error
            self.close()
            raise mismatch

    def upsert_many(self, groups: Sequence[tuple[str, Sequence[Row]]]) -> None:
        """Write all rows of all namespaces or none to the local disk; they are pushed in the background."""
        self._local.upsert_many(groups)
        self._worker.wake()

    def search_many(self, queries: Sequence[Query], top_k: int) -> list[list[Match]]:
        """Return the best rows of all machines; only of this file if Pinecone fails or is late.

        Words are found only in this file. Rows of other machines rank by meaning, by the whole query.
        """
        check_top_k(top_k)
        return [self._search(self._local.checked_query(query), int(top_k)) for query in queries]

    def _search(self, query: Query, top_k: int) -> list[Match]:
        namespace, others = query.namespace, list[Match]()
        before = self._local.pending_deletes(namespace)
        if query.mode != "lexical" and not before.whole_namespace:
            # Request more rows, because deleted and outdated ones are filtered out below.
            wanted = min(max(top_k, DEPTH if query.mode == "hybrid" else 0) + before.stale, MAX_TOP_K)
            if found := self._ask(lambda index: index.query(namespace, query.vector[0], wanted, query.where)):
                own = self._local.own_ids(namespace, [match.id for match in found])
                after = self._local.pending_deletes(namespace)  # read last: includes rows deleted since `own` was read
                hidden = before.ids | after.ids | own
                others = [] if after.whole_namespace else [match for match in found if match.id not in hidden]
        unique: dict[str, Match] = {}
        for match in self._local.search_with(query, top_k, others):
            unique.setdefault(match.id, match)  # this machine may have written one of `others` meanwhile
        return list(unique.values())

    def delete(self, namespace: str, ids: Sequence[str] | None = None, asked_by: AskedBy = "library") -> Receipt:
        """Delete rows of all machines; other machines find them until Pinecone has applied the delete."""
        receipt = self._local.delete(namespace, ids, asked_by)
        self._worker.wake()
        return receipt

    def export(self, namespace: str) -> list[Row]:
        """Return all rows of a namespace, oldest first; only those of this file if Pinecone fails."""
        return self._with_others(self._local.export(namespace), namespace)

    def recent(self, namespace: str, limit: int) -> list[Row]:
        """Return the newest rows of this file: Pinecone has no order, so all its rows would have to be fetched."""
        return self._local.recent(namespace, limit)

    def count(self, namespace: str | None = None) -> int:
        return self._local.count(namespace)

    def retain(self, namespace: str | None, ttl_s: float | None) -> None:
        """Only for the rows of this file."""
        self._local.retain(namespace, ttl_s)
        self._worker.wake()

    def sweep(self) -> int:
        """Delete this file's expired rows here and in Pinecone. Searches hide those of other machines."""
        removed = self._local.sweep()
        self._worker.wake()
        return removed

    def replication(self) -> ReplicationStats:
        (depth, oldest_s, parked), last_error = self._local.backlog(), self._worker.last_error
        return ReplicationStats(
            outbox_depth=depth,
            oldest_s=oldest_s,
            parked=parked,
            pushed=self._worker.pushed,
            fallbacks=self._fallbacks,
            key_refused=isinstance(last_error, KeyRefused),
            last_error=str(last_error or ""),
        )

    def close(self) -> None:
        """Push remaining entries for at most `DRAIN_S`, then close; the rest is pushed after the file is reopened."""
        self._worker.close(DRAIN_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._local.close()

    def _with_others(self, own: list[Row], namespace: str) -> list[Row]:
        """Add the rows that only Pinecone has to the file's rows; return them oldest first."""
        before = self._local.pending_deletes(namespace)
        if before.whole_namespace:
            return own
        known = self._local.own_ids(namespace) | before.ids
        others = self._ask(lambda index: index.export_without(namespace, known), EXPORT_S)
        after = self._local.pending_deletes(namespace)
        if not others or after.whole_namespace:
            return own
        hidden = after.ids | self._local.own_ids(namespace)
        return sorted([*own, *(row for row in others if row.id not in hidden)], key=lambda row: row.created_at)

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
            self._fallbacks += 1
            first = bool(reason) and not self._failing
            self._failing |= first
        if first:
            logger.warning("Searches use only the local file until Pinecone answers: %s", reason)
        return None
