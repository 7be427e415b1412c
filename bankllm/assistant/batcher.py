"""Micro-batching: requests that arrive while the encoder is busy share its next passes.

A batch starts as soon as one request is queued and a thread is idle, so an idle server adds no delay.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

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
        self.waiting: queue.Queue[tuple[str, Future[ResultT]] | None] = queue.Queue(max_waiting)
        self._closed = False
        self._closing = threading.Lock()
        self._threads = [threading.Thread(target=self._work, name="encoder", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, text: str) -> Future[ResultT]:
        """Queue a text; the future gets its result, or the exception that `run` raised for only this text.

        A cancelled text is skipped. Raises `Overloaded` if the queue is full or closed.
        """
        future: Future[ResultT] = Future()
        with self._closing:
            if self._closed:
                raise Overloaded("The server is shutting down. Try again in a moment.")
            try:
                self.waiting.put_nowait((text, future))
            except queue.Full:
                raise Overloaded("Too many requests are waiting. Try again in a moment.") from None
        return future

    def close(self) -> None:
        """Refuse new requests, complete the queued ones, then end the threads."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self.waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (request := self.waiting.get()) is not None:
            requests = [request]
            share = min(self._max_batch, 1 + -(-self.waiting.qsize() // len(self._threads)))
            while len(requests) < share:
                try:
                    request = self.waiting.get_nowait()
                except queue.Empty:
                    break
                if request is None:
                    self.waiting.put(None)
                    break
                requests.append(request)
            if batch := [request for request in requests if request[1].set_running_or_notify_cancel()]:
                self._observe(len(batch))
                self._complete(batch)
        self.waiting.put(None)  # for the next thread

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
