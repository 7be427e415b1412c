"""Micro-batching: requests that arrive while the encoder is busy share its next pass.

with Batcher(encode) as batcher:          # encode: list of texts → list of results, in order
    result, waited_s = batcher.process("where is my card")

One thread owns the encoder. It never waits for company: an idle server answers at once, and under load the next
batch fills while the last one runs. A batch holds what has waited longest, so nobody is passed over.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

from bankllm.errors import BankLLMError

Result = TypeVar("Result")

MAX_BATCH = 32
"""Texts a pass: beyond it a pass takes longer and no more texts a second come out."""
MAX_WAITING = 256
"""Requests in the queue: at some hundred a second the last one would wait a few seconds."""


class Overloaded(BankLLMError):
    """More requests wait than can be answered soon."""


@dataclass
class _Request(Generic[Result]):
    text: str
    asked: float = field(default_factory=time.perf_counter)
    began: float = 0.0
    done: Future[Result] = field(default_factory=Future)


class Batcher(Generic[Result]):
    """Calls `run` from a thread of its own with up to `max_batch` texts; close it when done."""

    def __init__(
        self,
        run: Callable[[list[str]], Sequence[Result]],
        max_batch: int = MAX_BATCH,
        max_waiting: int = MAX_WAITING,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`observe` hears the size of each batch."""
        self._run = run
        self._max_batch = max_batch
        self._observe = observe
        self._waiting: queue.Queue[_Request[Result] | None] = queue.Queue(max_waiting)
        self._closed = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="encoder", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue now, about."""
        return self._waiting.qsize()

    def process(self, text: str) -> tuple[Result, float]:
        """The text's result, and for how many seconds it waited for its batch. Blocks until it is there.

        Raises `Overloaded` where the queue is full or closed, and what `run` raises for this text alone.
        """
        request: _Request[Result] = _Request(text)
        with self._closing:
            if self._closed:
                raise Overloaded("The server is shutting down. Try again in a moment.")
            try:
                self._waiting.put_nowait(request)
            except queue.Full:
                raise Overloaded("Too many requests are waiting. Try again in a moment.") from None
        return request.done.result(), request.began - request.asked

    def close(self) -> None:
        """Answer what waits, then end. What is asked from now on is refused."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._waiting.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        last = False
        while not last:
            batch, last = self._next_batch()
            if batch:
                self._observe(len(batch))
                self._answer(batch)

    def _next_batch(self) -> tuple[list[_Request[Result]], bool]:
        """The requests that wait, oldest first, and whether they are the last ones."""
        batch: list[_Request[Result]] = []
        request = self._waiting.get()
        while request is not None:
            batch.append(request)
            if len(batch) == self._max_batch:
                return batch, False
            try:
                request = self._waiting.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _answer(self, batch: list[_Request[Result]]) -> None:
        now = time.perf_counter()
        for request in batch:
            request.began = request.began or now
        try:
            results = self._run([request.text for request in batch])
        except Exception as error:  # noqa: BLE001  whatever it is, the one who asked gets it
            if len(batch) == 1:
                batch[0].done.set_exception(error)
                return
            for request in batch:  # one of them is at fault, the others must not pay for it
                self._answer([request])
            return
        for request, result in zip(batch, results, strict=True):
            request.done.set_result(result)
