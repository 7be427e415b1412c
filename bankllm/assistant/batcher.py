"""Micro-batching: requests that arrive while the encoder is busy share its next passes.

with Batcher(encode) as batcher:          # encode: list of texts → list of results, in order
    result = batcher.submit("where is my card").done.result()

Threads of its own own the encoder. They never wait for company: an idle server answers at once, and under load the
next batch fills while the last one runs. A batch holds what has waited longest, so nobody is passed over; within it
texts of like length go through together, so that little time goes into padding.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

from bankllm.errors import BankLLMError

ResultT = TypeVar("ResultT")

MAX_BATCH = 32
"""Texts taken from the queue at once: the more there are, the more are alike in length."""
PASS = 8
"""Texts that go through the encoder together: beyond it no more texts a second come out."""
MAX_WAITING = 256
"""Requests in the queue: at some hundred a second the last one would wait a few seconds."""


class Overloaded(BankLLMError):
    """More requests wait than can be answered soon."""


@dataclass
class Job(Generic[ResultT]):
    """One text on its way through the encoder; times are `time.perf_counter`'s."""

    text: str
    asked: float = field(default_factory=time.perf_counter)
    began: float = 0.0
    ended: float = 0.0
    done: Future[ResultT] = field(default_factory=Future)
    """Cancelled before its pass begins, the text is left out."""


class Batcher(Generic[ResultT]):
    """Calls `run` from `threads` threads of its own with up to `at_once` texts each; close it when done."""

    def __init__(
        self,
        run: Callable[[list[str]], Sequence[ResultT]],
        max_batch: int = MAX_BATCH,
        max_waiting: int = MAX_WAITING,
        at_once: int = PASS,
        threads: int = 1,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`observe` hears how many texts each pass has."""
        self._run = run
        self._max_batch = max_batch
        self._at_once = at_once
        self._observe = observe
        self._waiting: queue.Queue[Job[ResultT] | None] = queue.Queue(max_waiting)
        self._closed = False
        self._closing = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name=f"encoder-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue now, about."""
        return self._waiting.qsize()

    def submit(self, text: str) -> Job[ResultT]:
        """Ask for the text's result; `done` holds it, or what `run` raised for this text alone.

        Raises `Overloaded` where the queue is full or closed.
        """
        job: Job[ResultT] = Job(text)
        with self._closing:
            if self._closed:
                raise Overloaded("The server is shutting down. Try again in a moment.")
            try:
                self._waiting.put_nowait(job)
            except queue.Full:
                raise Overloaded("Too many requests are waiting. Try again in a moment.") from None
        return job

    def close(self) -> None:
        """Answer what waits, then end. What is asked from now on is refused."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        last = False
        while not last:
            batch, last = self._next_batch()
            for start in range(0, len(batch), self._at_once):
                together = [
                    job for job in batch[start : start + self._at_once] if job.done.set_running_or_notify_cancel()
                ]
                if together:
                    self._observe(len(together))
                    self._answer(together)

    def _next_batch(self) -> tuple[list[Job[ResultT]], bool]:
        """This thread's share of what waits, oldest first, sorted by length; and whether the queue was closed."""
        batch: list[Job[ResultT]] = []
        job = self._waiting.get()
        share = min(self._max_batch, 1 + -(-self._waiting.qsize() // len(self._threads)))
        while job is not None:
            batch.append(job)
            if len(batch) >= share:
                break
            try:
                job = self._waiting.get_nowait()
            except queue.Empty:
                break
        return sorted(batch, key=lambda job: len(job.text)), job is None

    def _answer(self, together: list[Job[ResultT]]) -> None:
        now = time.perf_counter()
        for job in together:
            job.began = job.began or now
        try:
            results = self._run([job.text for job in together])
        except Exception as error:  # noqa: BLE001  whatever it is, the one who asked gets it
            if len(together) == 1:
                together[0].done.set_exception(error)
                return
            for job in together:  # one of them is at fault, the others must not pay for it
                self._answer([job])
            return
        ended = time.perf_counter()
        for job, result in zip(together, results, strict=True):
            job.ended = ended
            job.done.set_result(result)
