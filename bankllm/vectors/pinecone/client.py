"""Pinecone calls with a deadline and a circuit breaker, for searches that can fall back to the local file.

result = client.call(lambda store: store.query("CUST001", vector, 5))    # None: late, failed, or not connected yet
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
MAX_FAILURES = 3
"""Consecutive failed or late calls that open the circuit breaker; `call` then returns None without waiting."""
COOLDOWN_S = 5.0
"""Time in seconds until an open circuit breaker allows a test call. No caller waits for the test call."""
MAX_CONCURRENCY = 16
"""Maximum number of concurrent calls."""


class PineconeClient:
    """Calls one Pinecone index, which is opened when it is first reachable. Thread-safe."""

    def __init__(self, connect: Callable[[], PineconeStore], deadline_s: float) -> None:
        """`connect` opens the index. `deadline_s` limits a whole call in seconds, including the SDK's retries."""
        self.deadline_s = deadline_s
        self.fallbacks = 0
        """Number of calls that failed, were late or were skipped."""
        self._connect = connect
        self._store: PineconeStore | None = None
        self._breaker = Breaker(MAX_FAILURES, COOLDOWN_S)
        self._pool = ThreadPoolExecutor(MAX_CONCURRENCY, "pinecone")
        self._lock = Lock()
        self._failing = False

    def store(self) -> PineconeStore:
        """Return the index, opening it if necessary; only one thread may call this.

        Raises `StoreError` if the index cannot be opened; the next call tries again.
        """
        if self._store is None:
            self._store = self._connect()
        return self._store

    def call(self, request: Callable[[PineconeStore], T], deadline_s: float | None = None) -> T | None:
        """Run `request` and return its result; return None and count a fallback if it fails or is late.

        Raises `ForeignRecord` and `UsageError`, because these are not outages.
        """
        store = self._store
        test_call = self._breaker.tripped
        if store is None or not self._breaker.allows():
            self._count_fallback("there is no connection yet" if store is None else "")
            return None
        pending = _PendingCall(deadline_s or self.deadline_s)
        future = self._pool.submit(request, store)
        future.add_done_callback(lambda done: self._report(pending, done))
        if test_call:
            self._count_fallback("")
            return None
        try:
            return future.result(timeout=pending.deadline_s)
        except (TimeoutError, CancelledError):
            future.cancel()
            reason = f"no answer within {pending.deadline_s:g} s"
            if pending.claim():
                self._breaker.failed()
        except ForeignRecord:
            raise
        except StoreError as error:
            reason = str(error)
        self._count_fallback(reason)
        return None

    def count_skipped(self) -> None:
        """Count a call that was skipped, because the caller could not acquire a lock in time."""
        self._count_fallback("")

    def close(self) -> None:
        """Close the connections without waiting for running calls."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._store is not None:
            self._store.close()

    def _report(self, pending: "_PendingCall", done: Future[T]) -> None:
        """Report a call's outcome to the circuit breaker, unless it was already reported as late."""
        if not pending.claim():
            return
        error = None if done.cancelled() else done.exception()
        failed = isinstance(error, StoreError) and not isinstance(error, ForeignRecord)
        if failed or done.cancelled() or time.monotonic() > pending.until:
            self._breaker.failed()
            return
        self._breaker.succeeded()
        with self._lock:
            recovered, self._failing = self._failing, False
        if recovered:
            logger.info("Pinecone answers again; searches use it again.")

    def _count_fallback(self, reason: str) -> None:
        with self._lock:
            self.fallbacks += 1
            first = bool(reason) and not self._failing
            self._failing |= first
        if first:
            logger.warning("Searches use only the local file until Pinecone answers: %s", reason)


class _PendingCall:
    """A running call. `claim` ensures that its outcome is reported once: by the waiting caller or by the callback."""

    def __init__(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self.until = time.monotonic() + deadline_s
        self._lock = Lock()

    def claim(self) -> bool:
        """Return True for the first call only."""
        return self._lock.acquire(blocking=False)
