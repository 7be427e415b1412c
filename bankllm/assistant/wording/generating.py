"""Replies worded by a language model. If it fails or says something else than the facts, the facts' own text is sent.

The log contains the reason, but no text of the customer or of the model.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import Protocol

import pybreaker
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from bankllm.assistant.caller import Caller
from bankllm.assistant.facts import Facts, Request
from bankllm.assistant.language.fallbacks import GenerationFailed
from bankllm.assistant.wording.grounding import NotGrounded, grounded
from bankllm.assistant.wording.prompts import Messages, Prompt, make_prompt
from bankllm.assistant.wording.responder import Reply

MAX_NEW_TOKENS = 256
"""A reply of four sentences with a few numbers needs about 100 tokens."""
MAX_ATTEMPTS = 2
"""Attempts per reply for a remote model: one retry, only after a transient failure and before any text was shown."""
MAX_CONCURRENCY = 24
"""Replies that are generated at once. A hanging model leaves some of the 40 threads that answer requests."""
FAILURES, REST_S = 4, 5.0
"""After this number of consecutive transient failures, the circuit breaker skips the model for this time in seconds.
Then one reply at a time tries it."""

CHECK_S = 0.02
"""How often a reply that waits for the model looks whether its client has left."""

logger = logging.getLogger(__name__)


class LanguageModel(Protocol):
    name: str
    is_remote: bool
    """Whether the prompt leaves this machine; names of payees and account numbers are then masked."""

    def write(self, messages: Messages, emit: Callable[[str], object], stop: Caller) -> None:
        """Pass the text to `emit` in pieces until it ends or `stop` is set. Raises `GenerationFailed`."""
        ...


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, GenerationFailed) and error.transient


class GeneratingResponder:
    """Generates replies with a language model and checks their figures before they are shown. Thread-safe."""

    waits = True

    def __init__(
        self,
        model: LanguageModel,
        timeout_s: float,
        prompt: Callable[[Request, Facts, bool], Prompt] = make_prompt,
    ) -> None:
        self.name = model.name
        self.timeout_s = timeout_s
        self._model, self._make_prompt = model, prompt
        self._slots = threading.BoundedSemaphore(MAX_CONCURRENCY)
        self._trial = threading.Lock()
        self._breaker = pybreaker.CircuitBreaker(
            FAILURES, REST_S, exclude=[lambda error: not _is_transient(error)], throw_new_error_on_trip=False
        )

    def stream(self, request: Request, facts: Facts) -> Iterator[str | Reply]:
        """Yield checked pieces, then the reply. After a fallback, the text of the reply replaces the pieces."""
        shown: list[str] = []
        try:
            if not facts.lines:
                raise GenerationFailed("abstained")
            for piece in self._pieces(request, facts):
                shown.append(piece)
                yield piece
        except GenerationFailed as failure:
            if failure.reason != "abstained":
                logger.warning("the template answered instead of %s: %s", self.name, failure.reason)
            if not shown:
                yield facts.text
            yield Reply(facts.text, fallback=failure.reason)
        else:
            yield Reply("".join(shown), self.name)

    def _pieces(self, request: Request, facts: Facts) -> Iterator[str]:
        """The checked pieces of the first attempt that yields one. Another attempt cannot continue a shown text."""
        if not self._slots.acquire(blocking=False):
            raise GenerationFailed("busy")
        try:
            attempts = stop_after_attempt(MAX_ATTEMPTS if self._model.is_remote else 1)
            start = Retrying(stop=attempts, retry=retry_if_exception(self._may_retry), reraise=True).wraps(self._start)
            first, rest = start(request, facts)
            with closing(rest):
                yield first
                yield from rest
        finally:
            self._slots.release()

    def _may_retry(self, error: BaseException) -> bool:
        return _is_transient(error) and self._breaker.current_state == pybreaker.STATE_CLOSED

    def _start(self, request: Request, facts: Facts) -> tuple[str, Generator[str]]:
        """Begin an attempt: return its first piece and the generator of the others."""
        resting = self._breaker.current_state != pybreaker.STATE_CLOSED
        if resting and not self._trial.acquire(blocking=False):
            raise GenerationFailed("resting")
        try:
            pieces = self._breaker.call(self._write, request, facts)
            return next(pieces), pieces
        except pybreaker.CircuitBreakerError:
            raise GenerationFailed("resting") from None
        finally:
            if resting:
                self._trial.release()

    def _write(self, request: Request, facts: Facts) -> Generator[str]:
        """One attempt. Yield pieces that passed the guard, at least one. Raises `GenerationFailed`."""
        prompt = self._make_prompt(request, facts, self._model.is_remote)
        text = ""
        with closing(_within(self.timeout_s, request.caller, partial(self._model.write, prompt.messages))) as written:
            try:
                for text in grounded(written, prompt.listing):
                    yield prompt.unmasked(text)
            except NotGrounded:
                raise GenerationFailed("not grounded") from None
        if not text:
            raise GenerationFailed("empty")


def _within(seconds: float, caller: Caller, write: Callable[[Callable[[str], object], Caller], None]) -> Generator[str]:
    """Run `write` in a separate thread, and yield the pieces that it emits. Raises what it raises.

    After `seconds`, when the caller has left (both `GenerationFailed`), or when the generator is closed, the thread is
    told to stop and left alone. It is a daemon: another machine that hangs does not delay the end of this process.
    """
    deadline = time.monotonic() + seconds
    pieces: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()
    stop = caller.part()

    def run() -> None:
        try:
            write(pieces.put, stop)
            pieces.put(None)
        except Exception as error:  # noqa: BLE001  raised in the thread that reads the pieces
            pieces.put(error)

    threading.Thread(target=run, name="responder", daemon=True).start()
    try:
        while time.monotonic() < deadline:
            if caller.is_set():
                raise GenerationFailed("left")
            with contextlib.suppress(queue.Empty):
                if (piece := pieces.get(timeout=CHECK_S)) is None:
                    return
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        raise GenerationFailed("time-out", transient=True)
    finally:
        stop.set()
