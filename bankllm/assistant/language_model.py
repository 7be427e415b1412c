"""The language model understands a message: it proposes tool calls under a constraint and within a deadline."""

import importlib.util
import threading
from collections.abc import Sequence

from bankllm.assistant.bank.tools import Call, calls_schema, parse_calls
from bankllm.assistant.language_engine import adapter, shared_engine
from bankllm.assistant.language_tasks import understand_prompt
from bankllm.assistant.wording.generating import GenerationFailed
from bankllm.errors import ModelError, UsageError
from bankllm.model.generation import GenerationEngine, GenerationRequest, TextStream
from bankllm.settings import Settings

MAX_TOKENS = 160
"""Tokens of the calls for one message; five calls with their words take about 120."""
AT_ONCE = 4
"""Messages that the model understands at once. Further ones are read by rules, so that no customer waits for others."""


class LanguageUnderstanding:
    """Proposes calls within a deadline. Thread-safe."""

    def __init__(self, engine: GenerationEngine, deadline_s: float | None) -> None:
        self.name = engine.name
        self._engine, self._deadline_s = engine, deadline_s
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    def calls(self, messages: Sequence[str]) -> list[Call]:
        """Return the calls for the last of the customer's messages. Raises `GenerationFailed` with the reason."""
        if not self._slots.acquire(blocking=False):
            raise GenerationFailed("busy")
        try:
            request = GenerationRequest(understand_prompt(messages), MAX_TOKENS, calls_schema(), messages)
            (stream,) = self._engine.generate([request])
            return list(parse_calls(_text(stream, self._deadline_s), messages).calls)
        except UsageError:
            raise GenerationFailed("unreadable") from None
        except ModelError:
            raise GenerationFailed("failed") from None
        finally:
            self._slots.release()


def language_understanding(settings: Settings) -> LanguageUnderstanding | None:
    """Return what the setting `understanding` asks for; None stands for rules. Raises `ModelError` without a model."""
    usable = adapter(settings).exists() and importlib.util.find_spec("openvino_genai") is not None
    if settings.understanding == "rules" or (settings.understanding == "auto" and not usable):
        return None
    return LanguageUnderstanding(shared_engine(adapter(settings)), settings.understanding_timeout_s)


def _text(stream: TextStream, deadline_s: float | None) -> str:
    """Wait for the whole text. Raises `GenerationFailed` after the deadline."""
    timer = threading.Timer(deadline_s or threading.TIMEOUT_MAX, stream.cancel)
    timer.daemon = True
    timer.start()
    try:
        text = stream.text()
    finally:
        timer.cancel()
    if stream.finish != "end":
        raise GenerationFailed("time-out" if stream.finish == "cancelled" else "cut off")
    return text
