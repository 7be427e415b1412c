"""The responder `model`: the assistant's own language model, trained to word facts (`BANKLLM_LANGUAGE_ADAPTER`)."""

from collections.abc import Callable

from bankllm.assistant.caller import Caller
from bankllm.assistant.facts import Facts, Request
from bankllm.assistant.language.engine_client import CallersRequest
from bankllm.assistant.language.fallbacks import GenerationFailed
from bankllm.assistant.language.language_engine import cut_short, shared_engine
from bankllm.assistant.language.language_tasks import MAX_TOKENS, word_prompt
from bankllm.assistant.wording.generating import GeneratingResponder
from bankllm.assistant.wording.prompts import Messages, Prompt
from bankllm.assistant.wording.responder import RESPONDERS
from bankllm.errors import ModelError, UsageError
from bankllm.model.generation import GenerationEngine
from bankllm.settings import Settings


class LocalModel:
    """A generation engine as the `LanguageModel` of a responder."""

    is_remote = False

    def __init__(self, engine: GenerationEngine) -> None:
        self.name, self._engine = engine.name, engine

    def write(self, messages: Messages, emit: Callable[[str], object], stop: Caller) -> None:
        try:
            (stream,) = self._engine.generate([CallersRequest(messages, MAX_TOKENS, caller=stop)])
            for piece in stream:
                if stop.is_set():
                    stream.cancel()
                    return
                emit(piece)
        except (ModelError, UsageError):
            raise GenerationFailed("failed") from None
        if stream.finish != "end":
            raise GenerationFailed(cut_short(stream))


def prompt(request: Request, facts: Facts, remote: bool) -> Prompt:
    return Prompt(word_prompt(request.message, facts.lines), "\n".join(facts.lines), {})


@RESPONDERS.register("model")
def make_model(rest: str, settings: Settings) -> GeneratingResponder:
    if rest:
        raise UsageError("The responder `model` has no address. Write only `model`, and set BANKLLM_LANGUAGE_ADAPTER.")
    return GeneratingResponder(LocalModel(shared_engine(settings)), settings.responder_timeout_s, prompt)
