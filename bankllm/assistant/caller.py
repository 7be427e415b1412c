"""Who waits for a reply and until when, so that no model works for a client that has left."""

import math
import threading
import time
from collections.abc import Callable
from typing import Self


class Caller(threading.Event):
    """Is set when nobody waits any more. `deadline` is a time of `time.monotonic`."""

    def __init__(self, customer_id: str = "", timeout_s: float | None = None) -> None:
        super().__init__()
        self.customer_id = customer_id
        self.deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._ends: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    @property
    def seconds_left(self) -> float:
        return min(max(self.deadline - time.monotonic(), 0), threading.TIMEOUT_MAX)

    def set(self) -> None:
        super().set()
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            end()

    def when_set(self, end: Callable[[], object]) -> None:
        """Call `end` once: when the caller is set, or now if it is. It must not block."""
        with self._lock:
            self._ends.append(end)
        if self.is_set():
            self.set()

    def part(self) -> Self:
        """A caller for a part of the reply, which is set with this one or before it."""
        part = type(self)(self.customer_id)
        part.deadline = self.deadline
        self.when_set(part.set)
        return part
