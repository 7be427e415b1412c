"""Whose turn it is with the language model: *understand* before *word*, and nothing that would come too late."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

Task = Literal["understand", "word"]
AT_ONCE = 4
"""Texts that are generated at once. On two cores each gets about 25 tokens/s then: more would make all of them late."""
MAX_WAITING = 32
CHECK_S = 0.02
SMOOTHING = 0.2
"""Weight of the latest text in the mean duration of its task."""


class Busy(Exception):
    """The request would be late, too many wait, or its customer has one that waits."""


@dataclass(eq=False)
class Turn:
    task: Task
    customer_id: str
    """Whose requests are answered one after the other; empty for an unknown customer's."""
    deadline: float
    """A time of `time.monotonic`, which is the same in all processes."""
    arrived: float = field(default_factory=time.monotonic)

    def goes_before(self, other: "Turn") -> bool:
        return (self.task == "word", self.arrived) < (other.task == "word", other.arrived)


class Turns:
    """Thread-safe."""

    def __init__(self) -> None:
        self._waiting: list[Turn] = []
        self._running: list[Turn] = []
        self._mean_s: dict[Task, float] = {"understand": 0.0, "word": 0.0}
        self._changed = threading.Condition()

    @contextmanager
    def take(self, turn: Turn, has_left: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Wait for the turn, which lasts until the end of the block. Raises `Busy`, also if the client has left."""
        with self._changed:
            ahead = sum(self._mean_s[other.task] for other in self._waiting if other.goes_before(turn)) / AT_ONCE
            twice = turn.customer_id and any(other.customer_id == turn.customer_id for other in self._waiting)
            if twice or len(self._waiting) >= MAX_WAITING or self._is_late(turn, ahead):
                raise Busy
            self._waiting.append(turn)
            try:
                while not self._is_next(turn):
                    self._changed.wait(CHECK_S)
                    if has_left() or self._is_late(turn):
                        raise Busy
                self._running.append(turn)
            finally:
                self._waiting.remove(turn)
        began, mean_s = time.monotonic(), self._mean_s[turn.task]
        complete = False
        try:
            yield
            complete = True
        finally:
            took_s = time.monotonic() - began
            with self._changed:
                self._running.remove(turn)
                if complete or took_s > mean_s:
                    self._mean_s[turn.task] = mean_s + SMOOTHING * (took_s - mean_s) if mean_s else took_s
                self._changed.notify_all()

    @property
    def running(self) -> int:
        return len(self._running)

    def _is_late(self, turn: Turn, ahead_s: float = 0.0) -> bool:
        """Whether it would end after its deadline. If nothing runs it is tried: the last measurement may be old."""
        return bool(self._running) and time.monotonic() + ahead_s + self._mean_s[turn.task] > turn.deadline

    def _is_next(self, turn: Turn) -> bool:
        served = {other.customer_id for other in self._running} - {""}
        before = (other for other in self._waiting if other.goes_before(turn) and other.customer_id not in served)
        return len(self._running) < AT_ONCE and turn.customer_id not in served and not any(before)
