"""Circuit breaker: stop calling a service for a while after several failures in a row.

The breaker is *closed* at first, and every call is allowed. After the given number of consecutive failures it is
*open*: calls are refused at once, so that no caller waits for a timeout. After the cooldown it is *half-open*: one call
at a time is allowed as a trial. A successful trial closes the breaker, a failed one starts the cooldown again.
"""

import threading
import time
from collections.abc import Callable


class Breaker:
    """Thread-safe circuit breaker.

    Call `allows()` before a call to the service. If it returns True, report the result with exactly one of
    `succeeded()`, `failed()` or `abandoned()`.
    """

    def __init__(self, failures: int, cooldown_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Open after `failures` consecutive failures, for `cooldown_s` seconds.

        `clock` returns the time in seconds; tests replace it.
        """
        self._failures = failures
        self._cooldown_s = cooldown_s
        self._clock = clock
        self._lock = threading.Lock()
        self._consecutive_failures = 0
        self._open_until = 0.0
        self._trial_running = False

    @property
    def tripped(self) -> bool:
        """Whether the breaker is open or half-open: at most one trial call at a time is allowed."""
        with self._lock:
            return self._consecutive_failures >= self._failures

    def allows(self) -> bool:
        """Whether the caller may call the service now."""
        with self._lock:
            if self._consecutive_failures < self._failures:
                return True
            if self._trial_running or self._clock() < self._open_until:
                return False
            self._trial_running = True
            return True

    def succeeded(self) -> None:
        """The call succeeded: close the breaker."""
        with self._lock:
            self._consecutive_failures, self._trial_running = 0, False

    def failed(self) -> None:
        """The call failed for a transient reason: count the failure, and start the cooldown."""
        with self._lock:
            self._consecutive_failures, self._trial_running = self._consecutive_failures + 1, False
            self._open_until = self._clock() + self._cooldown_s

    def abandoned(self) -> None:
        """The call ended without a result, e.g. it was cancelled: another caller may make the trial call."""
        with self._lock:
            self._trial_running = False
