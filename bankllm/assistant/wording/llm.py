"""Replies that a language model words from the facts, with the template's standing in where it fails.

    make_responder("openai:http://127.0.0.1:8080/v1#small", get_settings()).respond(facts)

The reply says who worded it and, if it is not who was asked, why. The log says the reason too, but no text.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlsplit

from bankllm.assistant.wording.grounding import GroundedStream, NotGrounded, grounded_in
from bankllm.assistant.wording.llm_clients import GenerationFailed, LanguageModel, OpenAIModel, TransformersModel
from bankllm.assistant.wording.prompts import make_prompt
from bankllm.assistant.wording.template import Facts, Fallback, Reply, Responder, TemplateResponder
from bankllm.errors import UsageError
from bankllm.settings import Settings
from bankllm.util.circuit_breaker import Breaker

ATTEMPTS = 2
"""One retry, of a server alone and only where asking again may help."""
MAX_CONCURRENCY = 24
"""Replies in the making. Each holds one of the 40 threads that answer requests: the others stay free of a model that
hangs, and the template words what is asked beyond that."""
FAILURES, REST_S = 4, 5.0
"""After so many time-outs or refused connections in a row the model is not asked for so long."""

logger = logging.getLogger(__name__)


def make_responder(spec: str, settings: Settings) -> Responder:
    """The responder that `spec` names. Raises `UsageError` for another form, `ModelError` for a model not there."""
    kind, _, rest = spec.partition(":")
    url, _, model = rest.partition("#")
    if spec == "template":
        return TemplateResponder()
    if kind == "transformers" and rest:
        return GeneratingResponder(TransformersModel(rest, settings), settings.responder_timeout_s)
    if kind == "openai" and model and _is_base_url(url):
        return GeneratingResponder(OpenAIModel(url, model, settings), settings.responder_timeout_s)
    # What follows the colon is not shown: an address may hold a password.
    raise UsageError(
        f"The responder {f'{kind}:…' if rest else kind!r} is not one of the three forms: `template`, "
        "`transformers:<hub id or folder>`, `openai:<base-url>#<model>` (such as "
        "openai:http://127.0.0.1:8080/v1#small). Correct --responder or BANKLLM_RESPONDER."
    )


class GeneratingResponder:
    """Lets a language model word the facts, and checks what it says before anyone sees it. Any thread may ask."""

    def __init__(self, model: LanguageModel, timeout_s: float) -> None:
        self.name = model.name
        self._model = model
        self._timeout_s = timeout_s
        self._template = TemplateResponder()
        self._places = threading.BoundedSemaphore(MAX_CONCURRENCY)
        self._breaker = Breaker(FAILURES, REST_S)

    def respond(self, facts: Facts) -> Reply:
        return [item for item in self.stream(facts) if isinstance(item, Reply)][-1]

    def stream(self, facts: Facts) -> Iterator[str | Reply]:
        """Pieces that are checked already, then the reply; after a failure its text replaces what was shown."""
        plain = self._template.respond(facts)
        if facts.alternatives:
            # No facts, only a question back and a promise to hand over: the bank's own words.
            yield from self._fall_back(plain, "abstained", shown=False)
            return
        if not self._places.acquire(blocking=False):
            yield from self._fall_back(plain, "busy", shown=False)
            return
        try:
            yield from self._generate(facts, plain)
        finally:
            self._places.release()

    def _generate(self, facts: Facts, plain: Reply) -> Iterator[str | Reply]:
        shown: list[str] = []
        reason: Fallback = "resting"
        for _ in range(ATTEMPTS if self._model.is_remote else 1):
            if not self._breaker.allows():
                break
            try:
                for piece in self._watched(facts):
                    shown.append(piece)
                    yield piece
            except NotGrounded:
                reason = "not grounded"
                break
            except GenerationFailed as failure:
                reason = failure.reason
                # Another attempt may be worded otherwise, so it must not follow what was shown of this one.
                if shown or not failure.transient:
                    break
            else:
                yield replace(plain, text="".join(shown), responder=self.name)
                return
        yield from self._fall_back(plain, reason, bool(shown))

    def _watched(self, facts: Facts) -> Iterator[str]:
        """`_write`, and the breaker hears how it went: whatever a model answers, it is there."""
        try:
            yield from self._write(facts)
        except GenerationFailed as failure:
            (self._breaker.failed if failure.transient else self._breaker.succeeded)()
            raise
        except NotGrounded:
            self._breaker.succeeded()
            raise
        except BaseException:  # the reader has gone, or a fault of ours
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()

    def _write(self, facts: Facts) -> Iterator[str]:
        """One attempt: pieces that hold no figure but the facts'. Raises `NotGrounded`, `GenerationFailed`."""
        prompt = make_prompt(facts, self._model.is_remote)
        stream = GroundedStream(grounded_in(prompt.listing))
        empty = True
        pieces = _within(self._timeout_s, lambda emit, stop: self._model.write(prompt.messages(), emit, stop))
        with closing(pieces):
            for piece in pieces:
                if text := stream.feed(piece):
                    empty = False
                    yield prompt.unmasked(text)
        if text := stream.finish():
            empty = False
            yield prompt.unmasked(text)
        if empty:
            raise GenerationFailed("empty")

    def _fall_back(self, plain: Reply, reason: Fallback, shown: bool) -> Iterator[str | Reply]:
        if reason != "abstained":
            logger.warning("the template replies in place of %s: %s", self.name, reason)
        if not shown:
            yield plain.text
        yield replace(plain, fallback=reason)


def _within(seconds: float, write: Callable[[Callable[[str], object], threading.Event], None]) -> Generator[str]:
    """What `write` emits, from a thread of its own, so that one that hangs is left behind in time.

    It is told to stop when its reader has gone. Raises `GenerationFailed` for the time-out, and what `write` raises.
    """
    deadline = time.monotonic() + seconds
    pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    stop = threading.Event()
    thread = ThreadPoolExecutor(1, "responder")
    try:
        written = thread.submit(write, pieces.put, stop)
        written.add_done_callback(lambda _: pieces.put(None))
        while (piece := pieces.get(timeout=max(deadline - time.monotonic(), 0))) is not None:
            yield piece
        written.result()
    except queue.Empty:
        raise GenerationFailed("time-out", transient=True) from None
    finally:
        stop.set()
        thread.shutdown(wait=False)


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.username)
    except ValueError:
        return False
