"""The thread that tells Pinecone what stands in the outbox, in order, until it has been told.

An outage is waited out with growing pauses, however long it takes. A record that Pinecone refuses for good is parked
and does not hold up the others. Of the processes that share a file one pushes at a time.
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
from bankllm.vectors.pinecone.outbox import Entry, OutboxStore, sole_pusher
from bankllm.vectors.pinecone.store import PineconeStore
from bankllm.vectors.rows import Row

logger = logging.getLogger(__name__)

POLL_S = 0.5
"""How often to look for what other processes wrote."""
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 10.0
"""Between attempts during an outage; each pause is up to twice the one before."""
MAX_CONCURRENCY = 8
"""Pinecone namespaces that are written at the same time; within each, one call after the other."""

Work = Sequence[tuple[Entry, Row | None]]


class OutboxWorker:
    """Pushes until `close`."""

    def __init__(self, outbox: OutboxStore, client: PineconeClient) -> None:
        self.pushed = 0
        """Entries that Pinecone took from this process."""
        self.last_error: Exception | None = None
        """Why nothing can be pushed now."""
        self.turn = Lock()
        """Held while Pinecone and the outbox are being brought in step."""
        self.tried = Event()
        """Set once the index was opened, or could not be."""
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
        """There is something to push."""
        self._wake.set()

    def saw_indexed(self, namespace: str, lsn: int) -> None:
        """A search there held all that Pinecone's log has up to `lsn`; what need not be hidden any more goes soon."""
        self._indexed[namespace] = lsn

    def close(self, drain_s: float) -> None:
        """Push what is left, for `drain_s` at most; the rest stays in the file for the next process."""
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
                    self._well()
                except Exception as error:  # noqa: BLE001  whatever it is, the thread goes on
                    if self._closing.is_set():
                        return
                    pause = self._note(error)
                    self.tried.set()
                if self._closing.is_set() and pause:
                    return
                if self.last_error is not None:
                    self._closing.wait(pause)  # not `_wake`: customers write during an outage too
                elif pause:
                    self._wake.wait(pause)
                    self._wake.clear()

    def _push_page(self, pool: ThreadPoolExecutor) -> bool:
        """Push one page of the outbox; whether there may be more. Raises `StoreError` where Pinecone fails."""
        store = self._client.store()
        self.tried.set()
        with self.turn, sole_pusher(self._outbox.path) as sole:
            if not sole:
                return False
            self._tidy()
            work = self._outbox.waiting()
            if not work:
                return False
            groups: dict[str, list[tuple[Entry, Row | None]]] = {}
            for entry, row in work:
                groups.setdefault(record_location(entry.namespace, store.layout).namespace, []).append((entry, row))
            told = [pool.submit(self._push_in_order, store, *group) for group in groups.items()]
            wait(told)
            for one in told:
                one.result()
        return True

    def _tidy(self) -> None:
        if not self._unparked:
            self._outbox.unpark()
            self._unparked = True
        for namespace in list(self._indexed):
            self._outbox.indexed(namespace, self._indexed.pop(namespace))
        self._outbox.expire()

    def _push_in_order(self, store: PineconeStore, pinecone_namespace: str, work: Work) -> None:
        for kind, run in groupby(work, key=lambda item: (item[1] is None) + (item[0].id == "")):
            same = list(run)
            size = BATCH_RECORDS if kind < 2 else 1
            for start in range(0, len(same), size):
                self._push(store, pinecone_namespace, same[start : start + size])

    def _push(self, store: PineconeStore, pinecone_namespace: str, work: Work) -> None:
        """Entries of one kind in one go; where Pinecone refuses them for good, halved until the one is found."""
        entries = [entry for entry, _ in work]
        try:
            self._tell(store, pinecone_namespace, work)
        except (CallRefused, UsageError) as error:
            if len(work) > 1:
                middle = len(work) // 2
                self._push(store, pinecone_namespace, work[:middle])
                self._push(store, pinecone_namespace, work[middle:])
                return
            self._outbox.parked(entries[0], str(error))
            logger.error("Pinecone refused record %r for good; it is kept locally alone: %s", entries[0].id, error)
            return
        with self._counting:
            self.pushed += len(entries)

    def _tell(self, store: PineconeStore, pinecone_namespace: str, work: Work) -> None:
        entries = [entry for entry, _ in work]
        places = [record_location(entry.namespace, store.layout) for entry in entries]
        records = [record_of(place, row) for place, (_, row) in zip(places, work, strict=True) if row is not None]
        if records:
            lsn = store.put(records, pinecone_namespace)
            self._outbox.upserted(entries)
            if lsn is not None:
                self._outbox.logged(lsn, None if places[0].prefix else entries[0].namespace)
        elif entries[0].id:
            ids = [place.id_of(entry.id) for place, entry in zip(places, entries, strict=True)]
            store.remove(ids, pinecone_namespace)
            self._outbox.removed(entries)
        else:
            store.delete(entries[0].namespace)
            self._outbox.removed(entries)

    def _well(self) -> None:
        if self.last_error is not None:
            logger.info("Pinecone takes writes again.")
        self.last_error, self._failed = None, 0

    def _note(self, error: Exception) -> float:
        """Say once what is wrong; how long to wait."""
        first = type(error) is not type(self.last_error)
        self.last_error = error
        lasting = isinstance(error, KeyRefused | IndexMismatch)
        if first:
            say = logger.error if lasting else logger.warning
            known = isinstance(error, BankLLMError)
            say("Writes wait in the local file until Pinecone takes them: %s", error, exc_info=not known)
        self._failed += 1
        longest = LONGEST_PAUSE_S if lasting else min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failed, 20))
        return longest * random.uniform(0.5, 1)
