"""When the requests of an open loop are due, and an timer that is not late for them.

An event loop's own timers count whole milliseconds. On Linux the kernel's `timerfd` wakes the loop to some ten
microseconds; elsewhere the loop's timers serve, and how late each request was sent stands in its row either way.
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
    """Seconds after the start at which one request after another is due, `rate` a second, without end.

    `poisson`: gaps are drawn from an exponential distribution, as those between many independent customers are;
    `constant`: gaps are all alike.
    """
    draw = random.Random(seed)
    due = 0.0
    while True:
        yield due
        due += draw.expovariate(rate) if arrivals == "poisson" else 1 / rate


class Timer:
    """Calls `fire` once when `time.monotonic()` has reached what `set` was told last."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fire: Callable[[], None]) -> None:
        self._loop = loop
        self._fire = fire
        self._file = _timer_file() if sys.platform == "linux" else None
        if self._file is not None:
            loop.add_reader(self._file, self._read)

    def set(self, when: float) -> None:
        delay = when - time.monotonic()
        if delay <= 0:
            self._loop.call_soon(self._fire)
        elif self._file is None:
            self._loop.call_later(delay, self._fire)
        else:
            seconds, rest = divmod(when, 1)
            # struct itimerspec: no interval, then the moment.
            moment = (ctypes.c_long * 4)(0, 0, int(seconds), int(rest * 1e9) + 1)
            if _libc().timerfd_settime(self._file, _ABSOLUTE, moment, None):
                raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
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
