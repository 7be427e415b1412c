"""A circuit breaker: what has just failed several times in a row is left alone for a while.

While it rests nobody waits for it. Then one caller at a time tries, until a try succeeds.
"""

import threading
import time
from collections.abc import Callable


class Breaker:
    """Any thread may ask; who was allowed tells how it went, or that it was `abandoned`."""

    def __init__(self, failures: int, rest_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Rests for `rest_s` after so many failures in a row, and after each failure that follows them."""
        self._failures = failures
        self._rest_s = rest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = 0
        self._rest_until = 0.0
        self._trying = False

    @property
    def tripped(self) -> bool:
        """Whether it has failed so often that only single tries are allowed."""
        with self._lock:
            return self._failed >= self._failures

    def allows(self) -> bool:
        """Whether to try now."""
        with self._lock:
            if self._failed < self._failures:
                return True
            if self._trying or self._clock() < self._rest_until:
                return False
            self._trying = True
            return True

    def succeeded(self) -> None:
        """A try went well: everybody may try again."""
        with self._lock:
            self._failed, self._trying = 0, False

    def failed(self) -> None:
        """A try failed in a way that another one may not."""
        with self._lock:
            self._failed, self._trying = self._failed + 1, False
            self._rest_until = self._clock() + self._rest_s

    def abandoned(self) -> None:
        """A try ended without telling anything."""
        with self._lock:
            self._trying = False
