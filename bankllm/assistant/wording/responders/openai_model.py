"""`openai:BASE-URL#MODEL`: a model on a server with OpenAI's protocol (vLLM, llama.cpp, Ollama, OpenAI, …)."""

import logging
import time
from collections.abc import Callable
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from bankllm.assistant.caller import Caller
from bankllm.assistant.language.fallbacks import GenerationFailed
from bankllm.assistant.wording.generating import MAX_NEW_TOKENS, GeneratingResponder
from bankllm.assistant.wording.prompts import Messages
from bankllm.assistant.wording.responder import RESPONDERS
from bankllm.errors import UsageError
from bankllm.settings import Settings
from bankllm.util.processes import is_loopback

TRANSIENT_STATUSES = frozenset({408, 409, 429})
"""A retry may succeed, as after all 5xx statuses."""

logger = logging.getLogger(__name__)


class OpenAIModel:
    is_remote = True

    def __init__(self, base_url: str, model: str, settings: Settings) -> None:
        from openai import DefaultHttpxClient, OpenAI

        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else "none"
        # The responder does the retries: the client would sleep for as long as the server requests.
        options: dict[str, Any] = {"base_url": base_url, "api_key": key, "timeout": settings.responder_timeout_s}
        try:
            if is_loopback(urlsplit(base_url).hostname or ""):  # a proxy of the environment could not reach it
                options["http_client"] = DefaultHttpxClient(trust_env=False)
            self._client = OpenAI(**options, max_retries=0)
        except Exception as error:
            # Not repeated in the message: a proxy's URL may hold a password.
            raise UsageError(
                "A proxy of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) cannot be used "
                f"({type(error).__name__}). Expected a URL of http, https or socks5, such as http://proxy:3128."
            ) from error
        self._model = model
        # The model's name on the server may be a folder. Its path is not shown to clients.
        self.name = f"openai:{PurePath(model).name if model.startswith('/') else model}"

    def write(self, messages: Messages, emit: Callable[[str], object], stop: Caller) -> None:
        import openai

        started = time.perf_counter()
        ended = False
        chat: Any = messages
        try:
            with self._client.chat.completions.create(
                model=self._model, messages=chat, max_tokens=MAX_NEW_TOKENS, temperature=0, stream=True
            ) as stream:
                for chunk in stream:
                    if stop.is_set():
                        return
                    for choice in chunk.choices:  # a chunk that reports usage has no choices
                        if choice.delta.content:
                            emit(choice.delta.content)
                        ended = ended or choice.finish_reason == "stop"
        except openai.APITimeoutError as error:
            raise GenerationFailed("time-out", transient=True) from error
        except openai.APIConnectionError as error:
            raise GenerationFailed("unreachable", transient=True) from error
        except openai.APIStatusError as error:
            seconds = time.perf_counter() - started
            logger.warning("the model server answered %d after %.1f s", error.status_code, seconds)
            transient = error.status_code in TRANSIENT_STATUSES or error.status_code >= 500
            raise GenerationFailed("unreachable" if transient else "refused", transient=transient) from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:  # not a chat completion
            logger.warning("cannot read the response of the model server: %s", type(error).__name__)
            raise GenerationFailed("failed") from error
        if not ended:
            raise GenerationFailed("cut off")


@RESPONDERS.register("openai")
def make_openai(rest: str, settings: Settings) -> GeneratingResponder:
    url, _, model = rest.partition("#")
    if not model or not _is_base_url(url):
        # The address is not shown, because it may contain a password.
        raise UsageError(
            "The address of the responder `openai:…` is invalid. Expected openai:<base-url>#<model>, for example "
            "openai:http://127.0.0.1:8080/v1#small. Correct --responder or BANKLLM_RESPONDER."
        )
    return GeneratingResponder(OpenAIModel(url, model, settings), settings.responder_timeout_s)


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.username)
    except ValueError:
        return False
