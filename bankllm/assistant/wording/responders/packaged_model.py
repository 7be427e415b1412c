"""`model`: the assistant's own language model, which was trained to word facts (`BANKLLM_LANGUAGE_ADAPTER`)."""

import threading
from collections.abc import Callable

from bankllm.assistant.facts import Facts, Request
from bankllm.assistant.language_engine import adapter, shared_engine
from bankllm.assistant.language_tasks import word_prompt
from bankllm.assistant.wording.generating import MAX_NEW_TOKENS, GeneratingResponder, GenerationFailed
from bankllm.assistant.wording.prompts import Messages, Prompt
from bankllm.assistant.wording.responder import RESPONDERS
from bankllm.errors import ModelError, UsageError
from bankllm.model.generation import GenerationEngine, GenerationRequest
from bankllm.settings import Settings


class EngineModel:
    """The engine as a `LanguageModel` of a responder."""

    is_remote = False

    def __init__(self, engine: GenerationEngine) -> None:
        self.name, self._engine = engine.name, engine

    def write(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> None:
        try:
            (stream,) = self._engine.generate([GenerationRequest(messages, MAX_NEW_TOKENS)])
            for piece in stream:
                if stop.is_set():
                    stream.cancel()
                    return
                emit(piece)
        except (ModelError, UsageError):
            raise GenerationFailed("failed") from None
        if stream.finish != "end":
            raise GenerationFailed("cut off")


def prompt(request: Request, facts: Facts, remote: bool) -> Prompt:
    return Prompt(word_prompt(request.message, facts.lines), "\n".join(facts.lines), {})


@RESPONDERS.register("model")
def make_model(rest: str, settings: Settings) -> GeneratingResponder:
    if rest:
        raise UsageError("The responder `model` has no address. Write only `model`, and set BANKLLM_LANGUAGE_ADAPTER.")
    model = EngineModel(shared_engine(adapter(settings)))
    return GeneratingResponder(model, settings.responder_timeout_s, prompt)
