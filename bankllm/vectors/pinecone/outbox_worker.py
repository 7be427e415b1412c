"""Background thread that pushes outbox entries to Pinecone, in order.

During an outage it retries with exponential backoff, without a limit. A record that Pinecone rejects permanently is
parked, so that it does not block the others. If several processes share a file, only one pushes at a time.
"""

import logging
import math
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import groupby
from threading import Event, Lock, Thread

from bankllm.errors import BankLLMError, UsageError
from bankllm.vectors.pinecone.client import PineconeClient
from bankllm.vectors.pinecone.conversion import BATCH_RECORDS, record_location, record_of
from bankllm.vectors.pinecone.errors import CallRefused, IndexMismatch, KeyRefused
from bankllm.vectors.pinecone.outbox import Entry, OutboxStore, push_lock
from bankllm.vectors.pinecone.store import PineconeStore
from bankllm.vectors.rows import Row

logger = logging.getLogger(__name__)

POLL_S = 0.5
"""Interval in seconds at which the outbox is checked for entries of other processes."""
FIRST_PAUSE_S = 0.2
"""The first pause between attempts during an outage is at most twice this time, in seconds."""
LONGEST_PAUSE_S = 10.0
"""Maximum pause in seconds between attempts during an outage; the pauses double up to this limit."""
MAX_CONCURRENCY = 8
"""Number of Pinecone namespaces that are written concurrently; calls for one namespace are sequential."""

Work = Sequence[tuple[Entry, Row | None]]


class OutboxWorker:
    """Pushes outbox entries from its creation until `close`."""

    def __init__(self, outbox: OutboxStore, client: PineconeClient) -> None:
        self.pushed = 0
        """Number of entries that this process has pushed to Pinecone."""
        self.last_error: Exception | None = None
        """The error of the last attempt; None if it succeeded."""
        self.sync_lock = Lock()
        """Held while a page of entries is pushed and the outbox is updated, so that counts of both are consistent."""
        self.connect_attempted = Event()
        """Set after the first attempt to open the index, successful or not."""
        self._outbox = outbox
        self._client = client
        self._wake = Event()
        self._closing = Event()
        self._failed = 0
        self._indexed: dict[str, int] = {}
        self._unparked = False
        self._counting = Lock()
        self._until = math.inf
        self._thread = Thread(target=self._run, name="pusher", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Check the outbox now; call it after a write."""
        self._wake.set()

    def note_indexed(self, namespace: str, lsn: int) -> None:
        """Note that a search included all writes up to log position `lsn`; the thread then confirms the deletes."""
        self._indexed[namespace] = lsn

    def close(self, drain_s: float) -> None:
        """Push the remaining entries for at most `drain_s` seconds; the rest stays in the file for the next process."""
        self._until = time.monotonic() + drain_s
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout=drain_s)

    def _run(self) -> None:
        with ThreadPoolExecutor(MAX_CONCURRENCY, "pusher") as pool:
            while time.monotonic() < self._until:
                pause = 0.0
                try:
                    if not self._push_page(pool):
                        pause = POLL_S
                    self._record_success()
                except Exception as error:  # noqa: BLE001  the thread must survive any exception
                    if self._closing.is_set():
                        return
                    pause = self._record_failure(error)
                    self.connect_attempted.set()
                if self._closing.is_set() and pause:
                    return
                if self.last_error is not None:
                    self._closing.wait(pause)  # not `_wake`, which writes during an outage would end early
                elif pause:
                    self._wake.wait(pause)
                    self._wake.clear()

    def _push_page(self, pool: ThreadPoolExecutor) -> bool:
        """Push one page of the outbox; return whether there may be more. Raises `StoreError` if Pinecone fails."""
        store = self._client.store()
        self.connect_attempted.set()
        with self.sync_lock, push_lock(self._outbox.path) as locked:
            if not locked:
                return False
            self._update_outbox()
            work = self._outbox.next_entries()
            if not work:
                return False
            groups: dict[str, list[tuple[Entry, Row | None]]] = {}
            for entry, row in work:
                groups.setdefault(record_location(entry.namespace, store.layout).namespace, []).append((entry, row))
            futures = [pool.submit(self._push_in_order, store, *group) for group in groups.items()]
            wait(futures)
            for future in futures:
                future.result()
        return True

    def _update_outbox(self) -> None:
        """Queue parked entries once per process, and stop hiding deletes that Pinecone has applied."""
        if not self._unparked:
            self._outbox.unpark()
            self._unparked = True
        for namespace in list(self._indexed):
            self._outbox.confirm_deletes(namespace, self._indexed.pop(namespace))
        self._outbox.expire()

    def _push_in_order(self, store: PineconeStore, pinecone_namespace: str, work: Work) -> None:
        """Push the entries of one Pinecone namespace, grouped into consecutive entries of the same kind.

        Kinds: 0 upsert of a row, 1 delete of a row, 2 delete of a whole namespace.
        """
        for kind, run in groupby(work, key=lambda item: (item[1] is None) + (item[0].id == "")):
            same = list(run)
            size = BATCH_RECORDS if kind < 2 else 1
            for start in range(0, len(same), size):
                self._push(store, pinecone_namespace, same[start : start + size])

    def _push(self, store: PineconeStore, pinecone_namespace: str, work: Work) -> None:
        """Push entries of one kind in one call. If Pinecone rejects them, bisect them and park the rejected entry."""
        entries = [entry for entry, _ in work]
        try:
            self._send(store, pinecone_namespace, work)
        except (CallRefused, UsageError) as error:
            if len(work) > 1:
                middle = len(work) // 2
                self._push(store, pinecone_namespace, work[:middle])
                self._push(store, pinecone_namespace, work[middle:])
                return
            self._outbox.park(entries[0], str(error))
            logger.error("Pinecone rejected record %r; it is stored only in the local file: %s", entries[0].id, error)
            return
        with self._counting:
            self.pushed += len(entries)

    def _send(self, store: PineconeStore, pinecone_namespace: str, work: Work) -> None:
        """Send entries of one kind to Pinecone and record the result in the outbox."""
        entries = [entry for entry, _ in work]
        locations = [record_location(entry.namespace, store.layout) for entry in entries]
        records = [
            record_of(location, row) for location, (_, row) in zip(locations, work, strict=True) if row is not None
        ]
        if records:
            lsn = store.put(records, pinecone_namespace)
            self._outbox.mark_upserted(entries)
            if lsn is not None:
                self._outbox.set_lsn(lsn, None if locations[0].prefix else entries[0].namespace)
        elif entries[0].id:
            ids = [location.id_of(entry.id) for location, entry in zip(locations, entries, strict=True)]
            store.remove(ids, pinecone_namespace)
            self._outbox.mark_deleted(entries)
        else:
            store.delete(entries[0].namespace)
            self._outbox.mark_deleted(entries)

    def _record_success(self) -> None:
        if self.last_error is not None:
            logger.info("Pinecone accepts writes again.")
        self.last_error, self._failed = None, 0

    def _record_failure(self, error: Exception) -> float:
        """Log the first error of its type and return the pause before the next attempt, in seconds."""
        first = type(error) is not type(self.last_error)
        self.last_error = error
        permanent = isinstance(error, KeyRefused | IndexMismatch)
        if first:
            log = logger.error if permanent else logger.warning
            known = isinstance(error, BankLLMError)
            log("Writes stay queued in the local file until Pinecone accepts them: %s", error, exc_info=not known)
        self._failed += 1
        longest = LONGEST_PAUSE_S if permanent else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failed, 20))
        return longest * random.uniform(0.5, 1)
