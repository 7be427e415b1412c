"""Pinecone as a search may ask it: within a deadline, and not at all while it fails.

found = client.call(lambda store: store.find("CUST001", vector, 5))    # None: late, failing, or not there yet
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

from bankllm.errors import StoreError
from bankllm.util.circuit_breaker import Breaker
from bankllm.vectors.pinecone.errors import ForeignRecord
from bankllm.vectors.pinecone.store import PineconeStore

logger = logging.getLogger(__name__)

T = TypeVar("T")
FAILURES = 3
"""So many calls in a row that failed or came late, and nobody waits any more."""
REST_S = 5.0
"""Then so long until a call is tried again, which nobody waits for either."""
CALLS = 16
"""Calls at once."""


class PineconeClient:
    """One index, opened when it can be; for any number of threads."""

    def __init__(self, connect: Callable[[], PineconeStore], deadline_s: float) -> None:
        """`connect` opens the index; `deadline_s` is for a whole call, the SDK's repeated attempts included."""
        self.deadline_s = deadline_s
        self.fallbacks = 0
        """Calls that were not answered in time, or not made."""
        self._connect = connect
        self._store: PineconeStore | None = None
        self._breaker = Breaker(FAILURES, REST_S)
        self._pool = ThreadPoolExecutor(CALLS, "pinecone")
        self._lock = Lock()
        self._failing = False

    def store(self) -> PineconeStore:
        """The index, for one thread. Raises `StoreError` where it cannot be opened; the next call tries again."""
        if self._store is None:
            self._store = self._connect()
        return self._store

    def call(self, request: Callable[[PineconeStore], T], deadline_s: float | None = None) -> T | None:
        """What a call answers, or None where it fails or takes longer; then `fallbacks` counts it.

        Raises `ForeignRecord` and `UsageError`, which are no outage.
        """
        store = self._store
        resting = self._breaker.tripped
        if store is None or not self._breaker.allows():
            self._fell_back("it was not reached yet" if store is None else "")
            return None
        asked = _Asked(deadline_s or self.deadline_s)
        future = self._pool.submit(request, store)
        future.add_done_callback(lambda done: self._judge(asked, done))
        if resting:
            self._fell_back("")
            return None
        try:
            return future.result(timeout=asked.deadline_s)
        except (TimeoutError, CancelledError):
            future.cancel()
            reason = f"no answer within {asked.deadline_s:g} s"
            if asked.first():
                self._breaker.failed()
        except ForeignRecord:
            raise
        except StoreError as error:
            reason = str(error)
        self._fell_back(reason)
        return None

    def late(self) -> None:
        """Count a call that was not made, since its turn did not come in time."""
        self._fell_back("")

    def close(self) -> None:
        """Let go of the connections. A call under way is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._store is not None:
            self._store.close()

    def _judge(self, asked: "_Asked", done: Future[T]) -> None:
        """Tell the breaker how a call went, unless it was told that it is late."""
        if not asked.first():
            return
        error = None if done.cancelled() else done.exception()
        failed = isinstance(error, StoreError) and not isinstance(error, ForeignRecord)
        if failed or done.cancelled() or time.monotonic() > asked.until:
            self._breaker.failed()
            return
        self._breaker.succeeded()
        with self._lock:
            recovered, self._failing = self._failing, False
        if recovered:
            logger.info("Pinecone answers again; searches ask it too.")

    def _fell_back(self, reason: str) -> None:
        with self._lock:
            self.fallbacks += 1
            first = bool(reason) and not self._failing
            self._failing |= first
        if first:
            logger.warning("Memory is searched in the local file alone until Pinecone answers: %s", reason)


class _Asked:
    """A call whose outcome is judged once, by whoever knows it first."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.until = time.monotonic() + deadline_s
        self._lock = Lock()

    def first(self) -> bool:
        return self._lock.acquire(blocking=False)
