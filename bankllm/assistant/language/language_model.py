"""The language model understands the messages that rules are unsure of: it proposes tool calls within a deadline.

It writes freely. A constraint would change only texts with an invalid call or a value that is no copy, and those are
left to rules, which read them more often right.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from bankllm.assistant.bank.tools import Call, call_schemas, copied_arguments, parse_calls
from bankllm.assistant.caller import Caller
from bankllm.assistant.language.engine_client import CallersRequest
from bankllm.assistant.language.engine_turns import AT_ONCE
from bankllm.assistant.language.fallbacks import GenerationFailed
from bankllm.assistant.language.language_engine import cut_short, shared_engine, understands
from bankllm.assistant.language.language_tasks import MAX_TOKENS, understand_prompt
from bankllm.assistant.understanding.agreement import agreed
from bankllm.assistant.understanding.readers import fee_named
from bankllm.assistant.understanding.rules import MOVES, Rules
from bankllm.assistant.understanding.sum_wishes import WISHES, with_wish
from bankllm.errors import ModelError, UsageError
from bankllm.model.generation import GenerationEngine, TextStream
from bankllm.settings import Settings

SURE = 0.6
"""The model's probability of each token from which its calls are taken. Below it, rules are more often right."""
MAX_ASKED = AT_ONCE + 2
"""Messages of one process that the model reads or will read. Rules read further ones at once: what waits behind more
would be late."""
LIKELY, SHORT = 0.9, 6
"""Probability of a tool, and words of a message, from which and up to which rules need no model."""


class LanguageUnderstanding:
    """Proposes calls. Thread-safe."""

    def __init__(self, engine: GenerationEngine) -> None:
        self.name = engine.name
        self._engine = engine
        self._lock, self._served = threading.Lock(), set[str]()
        self._asking = ThreadPoolExecutor(MAX_ASKED, "understanding")

    def ask(self, messages: Sequence[str], caller: Caller) -> Future[TextStream]:
        """Return the future of `written`.

        It raises `GenerationFailed` at once if the time is over, if `MAX_ASKED` messages are read, or another one of
        this customer.
        """
        late = time.monotonic() >= caller.deadline
        with self._lock:
            if late or len(self._served) >= MAX_ASKED or caller.customer_id in self._served:
                refused: Future[TextStream] = Future()
                refused.set_exception(GenerationFailed("time-out" if late else "busy"))
                return refused
            self._served.add(caller.customer_id)
        future = self._asking.submit(self.written, messages, caller)
        future.add_done_callback(lambda _: self._served.discard(caller.customer_id))
        return future

    def written(self, messages: Sequence[str], caller: Caller | None = None) -> TextStream:
        """Return the model's complete output about the last of the messages. Raises `GenerationFailed`."""
        request = CallersRequest(understand_prompt(messages), MAX_TOKENS, task="understand", caller=caller or Caller())
        try:
            (stream,) = self._engine.generate([request])
            stream.text()
            return stream
        except (UsageError, ModelError):
            raise GenerationFailed("failed") from None


def trusted(written: TextStream, messages: Sequence[str], rules: Rules, by_rules: Sequence[Call]) -> list[Call]:
    """Return the calls in the model's output about the last of the messages, which the rules read as `by_rules`.

    Raises `GenerationFailed` if the calls of the rules are to be taken.
    """
    if written.finish != "end":
        raise GenerationFailed(cut_short(written))
    try:
        found = parse_calls(written.written, messages)
    except UsageError:
        raise GenerationFailed("unreadable") from None
    if found.dropped or written.confidence < SURE or any(_is_old(call, messages[-1]) for call in found.calls):
        raise GenerationFailed("unsure")
    calls = agreed(found.calls, written.confidence, messages, rules, by_rules)
    if calls is None:
        raise GenerationFailed("unsure")
    return with_wish(calls, messages)


def _is_old(call: Call, message: str) -> bool:
    """Whether a call moves money by words of earlier messages only: after "maybe", nothing is proposed again."""
    words = [call[argument] for argument in copied_arguments(call["tool"]) & call.keys()]
    return call["tool"] in MOVES and bool(words) and not any(word in " ".join(message.split()) for word in words)


def needs_model(messages: Sequence[str], rules: Rules, by_rules: Sequence[Call]) -> bool:
    """Whether the model should read what rules read as `by_rules`.

    One call of a likely tool needs no model if the tool has no arguments or the message is short.
    """
    if any(call.keys() & WISHES or fee_named(call.get("category", "").lower()) for call in by_rules):
        return False  # no model has learnt these arguments, and that interest for an overdraft is a fee
    if len(by_rules) != 1 or rules.probabilities(messages).max() < LIKELY:
        return True
    return len(call_schemas()[by_rules[0]["tool"]]["properties"]) > 1 and len(messages[-1].split()) > SHORT


def language_understanding(settings: Settings) -> LanguageUnderstanding | None:
    """Return what the setting `understanding` asks for; None stands for rules. Raises `ModelError` without a model."""
    return LanguageUnderstanding(shared_engine(settings)) if understands(settings) else None
