"""Who waits for a reply and until when, so that no model works for a client that has left."""

import math
import threading
import time


class Caller(threading.Event):
    """Is set when nobody waits any more. `deadline` is a time of `time.monotonic`."""

    def __init__(self, customer_id: str = "", timeout_s: float | None = None) -> None:
        super().__init__()
        self.customer_id = customer_id
        self.deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._whole: Caller | None = None

    def is_set(self) -> bool:
        return super().is_set() or (self._whole is not None and self._whole.is_set())

    def part(self) -> "Caller":
        """A caller for a part of the reply, which can be set before this one."""
        part = Caller(self.customer_id)
        part.deadline, part._whole = self.deadline, self
        return part
