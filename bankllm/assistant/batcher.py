"""Micro-batching: requests that arrive while the encoder is busy share its next passes.

Dedicated threads run the encoder. They start a batch as soon as one request is queued, so an idle server adds no
batching delay. A thread dequeues the oldest requests first and sorts them by length, so that little time goes into
padding.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, Self, TypeVar

from bankllm.errors import BankLLMError

ResultT = TypeVar("ResultT")

MAX_DEQUEUED = 32
"""Texts that a thread takes from the queue at once."""
MAX_BATCH = 8
"""Texts per encoder pass. Larger passes do not increase the texts per second."""
MAX_WAITING = 256
"""Requests in the queue. At a few hundred requests per second, the last one waits about a second."""


class Overloaded(BankLLMError):
    """The queue of the encoder is full or closed."""


class Batcher(Generic[ResultT]):
    """Calls `run` with up to `max_batch` texts, from `threads` threads of its own. Close it when done."""

    def __init__(
        self,
        run: Callable[[list[str]], Sequence[ResultT]],
        max_dequeued: int = MAX_DEQUEUED,
        max_waiting: int = MAX_WAITING,
        max_batch: int = MAX_BATCH,
        threads: int = 1,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`observe` is called with the number of texts of each pass."""
        self._run = run
        self._max_dequeued = max_dequeued
        self._max_batch = max_batch
        self._observe = observe
        self._waiting: queue.Queue[tuple[str, Future[ResultT]] | None] = queue.Queue(max_waiting)
        self._closed = False
        self._closing = threading.Lock()
        self._threads = [
            threading.Thread(target=self._work, name=f"encoder-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Approximate number of requests in the queue."""
        return self._waiting.qsize()

    def submit(self, text: str) -> Future[ResultT]:
        """Queue a text; the future gets its result, or the exception that `run` raised for only this text.

        A text whose future is cancelled before its pass begins is skipped. Raises `Overloaded` if the queue is full or
        closed.
        """
        future: Future[ResultT] = Future()
        with self._closing:
            if self._closed:
                raise Overloaded("The server is shutting down. Try again in a moment.")
            try:
                self._waiting.put_nowait((text, future))
            except queue.Full:
                raise Overloaded("Too many requests are waiting. Try again in a moment.") from None
        return future

    def close(self) -> None:
        """Refuse new requests, complete the queued ones, then end the threads."""
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
            requests, last = self._dequeue()
            for start in range(0, len(requests), self._max_batch):
                batch = requests[start : start + self._max_batch]
                batch = [(text, future) for text, future in batch if future.set_running_or_notify_cancel()]
                if batch:
                    self._observe(len(batch))
                    self._complete(batch)

    def _dequeue(self) -> tuple[list[tuple[str, Future[ResultT]]], bool]:
        """This thread's share of the queue, the oldest requests, sorted by length; and whether the queue is closed."""
        requests: list[tuple[str, Future[ResultT]]] = []
        request = self._waiting.get()
        share = min(self._max_dequeued, 1 + -(-self._waiting.qsize() // len(self._threads)))
        while request is not None:
            requests.append(request)
            if len(requests) >= share:
                break
            try:
                request = self._waiting.get_nowait()
            except queue.Empty:
                break
        return sorted(requests, key=lambda queued: len(queued[0])), request is None

    def _complete(self, batch: list[tuple[str, Future[ResultT]]]) -> None:
        try:
            results = self._run([text for text, _ in batch])
        except Exception as error:  # noqa: BLE001  the caller of this text gets any error
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for request in batch:  # one text caused the error; the others get their results
                self._complete([request])
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
