"""Due times of the requests of an open loop, and a timer that wakes the event loop at them.

The timers of an event loop have a resolution of 1 ms. On Linux, the kernel's `timerfd` wakes the loop with a
resolution of about 10 µs; other systems use the loop's timers. The row of each request shows how late it was sent.
"""

import asyncio
import ctypes
import os
import random
import sys
import time
from collections.abc import Callable, Iterator

from bankllm.loadtest.load import Arrivals

_MONOTONIC, _NONBLOCKING, _ABSOLUTE = 1, 0o4000, 1


def due_times(rate: float, arrivals: Arrivals, seed: int) -> Iterator[float]:
    """Yield the due times of the requests, in seconds after the start, at `rate` requests per second. Never ends.

    - `poisson`: the times between requests are exponentially distributed, as for many independent customers.
    - `constant`: the times between requests are equal.
    """
    draw = random.Random(seed)
    due = 0.0
    while True:
        yield due
        due += draw.expovariate(rate) if arrivals == "poisson" else 1 / rate


class Timer:
    """Calls `fire` once when `time.monotonic()` reaches the time that was set last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._loop = loop
        self._fire = fire
        self._file = _timer_file() if sys.platform == "linux" else None
        if self._file is not None:
            loop.add_reader(self._file, self._read)

    def set(self, when: float) -> None:
        """Set the time of the next call, in seconds of `time.monotonic()`. A time in the past calls at once."""
        delay = when - time.monotonic()
        if delay <= 0:
            self._loop.call_soon(self._fire)
        elif self._file is None:
            self._loop.call_later(delay, self._fire)
        else:
            seconds, rest = divmod(when, 1)
            # struct itimerspec: the interval (none), then the expiration time.
            itimerspec = (ctypes.c_long * 4)(0, 0, int(seconds), int(rest * 1e9) + 1)
            if _libc().timerfd_settime(self._file, _ABSOLUTE, itimerspec, None):
                raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """Release the file descriptor of the timer."""
        if self._file is not None:
            self._loop.remove_reader(self._file)
            os.close(self._file)

    def _read(self) -> None:
        assert self._file is not None
        os.read(self._file, 8)
        self._fire()


def _timer_file() -> int:
    file = _libc().timerfd_create(_MONOTONIC, _NONBLOCKING)
    if file < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    return file


_LIBRARIES: list[ctypes.CDLL] = []


def _libc() -> ctypes.CDLL:
    if not _LIBRARIES:
        _LIBRARIES.append(ctypes.CDLL(None, use_errno=True))
    return _LIBRARIES[0]
