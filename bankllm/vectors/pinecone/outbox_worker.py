"""Background thread that pushes outbox entries to Pinecone, in order.

During an outage it retries with exponential backoff, without a limit. A record that Pinecone rejects permanently is
parked, so that it does not block the others. If several processes share a file, only one pushes at a time.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import groupby
from threading import Event, Thread

import tenacity

from bankllm.errors import BankLLMError, UsageError
from bankllm.vectors.pinecone.index import BATCH_RECORDS, CallRefused, IndexMismatch, KeyRefused, PineconeIndex
from bankllm.vectors.pinecone.outbox import Entry, OutboxStore, push_lock
from bankllm.vectors.rows import Row

logger = logging.getLogger(__name__)

POLL_S = 0.5
"""Interval in seconds at which the outbox is checked for entries of other processes."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.4, 10.0
"""Maximum pause in seconds after the first failed attempt, which doubles each time, and its limit."""
MAX_CONCURRENCY = 8
"""Number of namespaces that are written concurrently; calls for one namespace are sequential."""

Work = Sequence[tuple[Entry, Row | None]]


class OutboxWorker:
    """Opens the index and pushes outbox entries, from its creation until `close`."""

    def __init__(self, outbox: OutboxStore, connect: Callable[[], PineconeIndex]) -> None:
        self.index: PineconeIndex | None = None
        """The opened index; None until Pinecone has answered."""
        self.last_error: BaseException | None = None
        """The error of the last attempt; None if it succeeded."""
        self.connect_attempted = Event()
        """Set after the first attempt to open the index, successful or not."""
        self._outbox, self._connect = outbox, connect
        self._wake, self._closing = Event(), Event()
        self._until = math.inf
        self._thread = Thread(target=self._run, name="pusher", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def close(self, drain_s: float) -> None:
        """Push the remaining entries for at most `drain_s` seconds; the rest stays in the file for the next process."""
        self._until = time.monotonic() + drain_s
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout=drain_s)
        if self.index is not None:
            self.index.close()

    def _run(self) -> None:
        retrying = tenacity.Retrying(
            wait=tenacity.wait_random_exponential(multiplier=FIRST_PAUSE_S, max=LONGEST_PAUSE_S),
            stop=tenacity.stop_when_event_set(self._closing),
            sleep=tenacity.sleep_using_event(self._closing),
            before_sleep=self._record_failure,
        )
        with ThreadPoolExecutor(MAX_CONCURRENCY, "pusher") as pool, suppress(tenacity.RetryError):
            while time.monotonic() < self._until:
                more = retrying(self._push_page, pool)
                if self.last_error is not None:
                    logger.info("Pinecone accepts writes again.")
                self.last_error = None
                if more:
                    continue
                if self._closing.is_set():
                    return
                self._wake.wait(POLL_S)
                self._wake.clear()

    def _push_page(self, pool: ThreadPoolExecutor) -> bool:
        """Push one page of the outbox; return whether there may be more. Raises `StoreError` if Pinecone fails."""
        if self.index is None:
            self.index = self._connect()
        index = self.index
        self.connect_attempted.set()
        with push_lock(self._outbox.path) as locked:
            if not locked:
                return False
            self._outbox.expire()
            groups: dict[str, list[tuple[Entry, Row | None]]] = {}
            for entry, row in self._outbox.next_entries():
                groups.setdefault(entry.namespace, []).append((entry, row))
            futures = [pool.submit(self._push_in_order, index, *group) for group in groups.items()]
            wait(futures)
            for future in futures:
                future.result()
        return bool(groups)

    def _push_in_order(self, index: PineconeIndex, namespace: str, work: Work) -> None:
        """Push consecutive entries of a kind together: 0 upsert, 1 delete of a row, 2 delete of a customer."""
        for kind, run in groupby(work, key=lambda item: (item[1] is None) + (item[0].id == "")):
            same = list(run)
            size = BATCH_RECORDS if kind < 2 else 1
            for start in range(0, len(same), size):
                self._push(index, namespace, same[start : start + size])

    def _push(self, index: PineconeIndex, namespace: str, work: Work) -> None:
        """Push entries of one kind in one call. If Pinecone rejects them, bisect them and park the rejected entry."""
        try:
            self._send(index, namespace, work)
        except (CallRefused, UsageError) as error:
            if len(work) > 1:
                middle = len(work) // 2
                self._push(index, namespace, work[:middle])
                self._push(index, namespace, work[middle:])
                return
            entry = work[0][0]
            self._outbox.park(entry, str(error))
            logger.error("Pinecone rejected record %r; it is stored only in the local file: %s", entry.id, error)

    def _send(self, index: PineconeIndex, namespace: str, work: Work) -> None:
        entries = [entry for entry, _ in work]
        if rows := [row for _, row in work if row is not None]:
            index.put(namespace, rows)
            self._outbox.mark_upserted(entries)
            return
        index.remove(namespace, [entry.id for entry in entries] if entries[0].id else None)
        self._outbox.mark_deleted(entries)

    def _record_failure(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if type(error) is not type(self.last_error):
            log = logger.error if isinstance(error, KeyRefused | IndexMismatch) else logger.warning
            unknown = None if isinstance(error, BankLLMError) else error
            log("Writes stay queued in the local file until Pinecone accepts them: %s", error, exc_info=unknown)
        self.last_error = error
        self.connect_attempted.set()
