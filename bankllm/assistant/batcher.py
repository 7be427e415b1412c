"""Micro-batching: requests that arrive while others are worked on share the next passes.

A batch starts as soon as one request is queued and a thread is idle, so an idle server adds no delay.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from bankllm.errors import BankLLMError

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class Overloaded(BankLLMError):
    """The queue is full or closed."""


class Batcher(Generic[ItemT, ResultT]):
    """Calls `run` (items → results, in order) with up to `max_batch` items, from `threads` threads of its own."""

    def __init__(
        self,
        run: Callable[[list[ItemT]], Sequence[ResultT]],
        max_batch: int,
        threads: int = 1,
        max_waiting: float = float("inf"),
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`observe` is called with the number of items of each pass."""
        self._run = run
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._observe = observe
        self._queue: deque[tuple[ItemT, Future[ResultT]]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name="batcher", daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Number of items in the queue."""
        return len(self._queue)

    def submit(self, item: ItemT, *, first: bool = False) -> Future[ResultT]:
        """Queue an item, or put it before all that wait; the future gets its result, or what `run` raised for it alone.

        A cancelled item is skipped. Raises `Overloaded` if the queue is full or closed.
        """
        future: Future[ResultT] = Future()
        with self._changed:
            if self._closed:
                raise Overloaded("The server is shutting down. Try again in a moment.")
            if len(self._queue) >= self._max_waiting:
                raise Overloaded("Too many requests are waiting. Try again in a moment.")
            self._queue.insert(0 if first else len(self._queue), (item, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Refuse new items, complete the queued ones, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while taken := self._take():
            if batch := [each for each in taken if each[1].set_running_or_notify_cancel()]:
                self._observe(len(batch))
                self._complete(batch)

    def _take(self) -> list[tuple[ItemT, Future[ResultT]]]:
        """Wait for items, and take this thread's share of them; none after the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            share = min(self._max_batch, -(-len(self._queue) // len(self._threads)))
            return [self._queue.popleft() for _ in range(share)]

    def _complete(self, batch: list[tuple[ItemT, Future[ResultT]]]) -> None:
        try:
            results = self._run([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001  the caller of this item gets any error
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for each in batch:  # one item caused the error; the others get their results
                self._complete([each])
            return
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
