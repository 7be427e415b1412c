"""Micro-batching: requests that arrive while the encoder is busy share its next passes.

Dedicated threads run the encoder. They start a batch as soon as one request is queued, so an idle server adds no
batching delay.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, Self, TypeVar

from bankllm.errors import BankLLMError

ResultT = TypeVar("ResultT")

MAX_BATCH = 8
"""Texts per encoder pass. Larger passes do not increase the texts per second."""
MAX_WAITING = 256
"""Requests in the queue. At a few hundred requests per second, the last one waits about a second."""


class Overloaded(BankLLMError):
    """The queue of the encoder is full or closed."""


class Batcher(Generic[ResultT]):
    """Calls `run` (texts → results, in order) with up to `max_batch` texts, from `threads` threads of its own."""

    def __init__(
        self,
        run: Callable[[list[str]], Sequence[ResultT]],
        max_waiting: int = MAX_WAITING,
        max_batch: int = MAX_BATCH,
        threads: int = 1,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`observe` is called with the number of texts of each pass."""
        self._run = run
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

        A cancelled text is skipped. Raises `Overloaded` if the queue is full or closed.
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
        self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while (request := self._waiting.get()) is not None:
            requests = [request]
            share = min(self._max_batch, 1 + -(-self._waiting.qsize() // len(self._threads)))
            while len(requests) < share:
                try:
                    request = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if request is None:
                    self._waiting.put(None)
                    break
                requests.append(request)
            batch = [(text, future) for text, future in requests if future.set_running_or_notify_cancel()]
            if batch:
                self._observe(len(batch))
                self._complete(batch)
        self._waiting.put(None)  # for the next thread

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
