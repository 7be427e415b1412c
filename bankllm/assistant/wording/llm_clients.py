"""Clients of language models: one runs a model in this process, one calls a server over OpenAI's protocol.

Both use greedy decoding, emit the text in pieces while it is generated, and stop when the `stop` event is set.
"""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, Protocol

from bankllm.assistant.wording.template import Fallback
from bankllm.errors import ModelError
from bankllm.model import base_models
from bankllm.settings import Settings

MAX_NEW_TOKENS = 256
"""A reply of four sentences with a few numbers needs about 100 tokens."""
TRANSIENT_STATUSES = frozenset({408, 409, 429})
"""Statuses after which a retry may succeed, in addition to all 5xx statuses."""

logger = logging.getLogger(__name__)

Messages = list[dict[str, str]]


class GenerationFailed(Exception):
    """The model did not generate a complete text. The exception contains no text of the model or of the server."""

    def __init__(self, reason: Fallback, transient: bool = False) -> None:
        super().__init__(reason)
        self.reason: Fallback = reason
        self.transient = transient
        """Whether a retry may succeed."""


class LanguageModel(Protocol):
    """A language model that continues a chat."""

    @property
    def name(self) -> str: ...

    @property
    def is_remote(self) -> bool:
        """Whether the prompt leaves this process; IBANs are then masked."""
        ...

    def write(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> None:
        """Pass the text to `emit` in pieces until it ends or `stop` is set. Raises `GenerationFailed`."""
        ...


class TransformersModel:
    """A causal language model from a Hub id or a folder. It is loaded once and generates one text at a time."""

    is_remote = False

    def __init__(self, location: str, settings: Settings) -> None:
        """Load the model. Raises `ModelError` if it cannot be loaded."""
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        base = base_models.resolve(location, settings)
        device = base_models.device(settings)
        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[base_models.precision(device)]
        self.name = f"transformers:{base.name}"
        options: dict[str, Any] = {"local_files_only": settings.offline}
        try:
            with base_models.quiet_loading():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(base.location, **options)
                model: Any = AutoModelForCausalLM.from_pretrained(base.location, dtype=dtype, **options)
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"The responder's model {base.name} could not be loaded ({type(error).__name__}). Expected a Hub id or "
                "a folder of a causal language model with its tokenizer (config.json, weights, tokenizer.json)"
                + ("; BANKLLM_OFFLINE is set, so it must be in the local cache." if settings.offline else ".")
            ) from error
        self._model = model.to(device).eval()
        self._lock = threading.Lock()

    def write(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> None:
        while not self._lock.acquire(timeout=0.1):
            if stop.is_set():
                return
        try:
            # torch raises RuntimeError (also if out of memory) and IndexError. A chat template raises ValueError and
            # exceptions of its own.
            ended = self._generate(messages, emit, stop)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            logger.warning("generation failed: %s", type(error).__name__)
            raise GenerationFailed("failed") from error
        finally:
            self._lock.release()
        if not ended and not stop.is_set():
            raise GenerationFailed("cut off")

    def _generate(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> bool:
        """Generate the text. Returns True if the model ended it, False if it was cut off."""
        from transformers import GenerationConfig, StoppingCriteriaList, TextStreamer

        streamer: Any = TextStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        streamer.on_finalized_text = lambda text, stream_end=False: emit(text)
        inputs = self._encode(messages).to(self._model.device)
        ends = self._model.generation_config.eos_token_id
        output = self._model.generate(
            **inputs,
            # A new config: the model's own may enable sampling, and would then warn that greedy decoding ignores it.
            generation_config=GenerationConfig(
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                eos_token_id=ends if ends is not None else self._tokenizer.eos_token_id,
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
            ),
            stopping_criteria=StoppingCriteriaList([lambda ids, scores, **_: _all(ids, stop.is_set())]),
            streamer=streamer,
        )
        return output.shape[1] - inputs["input_ids"].shape[1] < MAX_NEW_TOKENS

    def _encode(self, messages: Messages) -> Any:
        """Tokenize the chat with the model's chat template, or join the contents if there is no template."""
        if self._tokenizer.chat_template is None:
            text = "\n\n".join(message["content"] for message in messages)
            return self._tokenizer(f"{text}\n\nReply: ", return_tensors="pt", return_token_type_ids=False)
        # enable_thinking=False turns off the reasoning text of models that have it. Other templates ignore the flag.
        options = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt", "enable_thinking": False}
        return self._tokenizer.apply_chat_template(messages, **options)


class OpenAIModel:
    """A model on a server with OpenAI's protocol: vLLM, llama.cpp, Ollama, `transformers serve`, OpenAI."""

    is_remote = True

    def __init__(self, base_url: str, model: str, settings: Settings) -> None:
        from openai import OpenAI

        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else "none"
        # The responder does the retries: the client would sleep for as long as the server requests.
        self._client = OpenAI(base_url=base_url, api_key=key, timeout=settings.responder_timeout_s, max_retries=0)
        self._model = model
        # The model's name on the server may be a folder. Its path is not shown to clients.
        self.name = f"openai:{PurePath(model).name if model.startswith('/') else model}"

    def write(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> None:
        import openai

        started = time.perf_counter()
        try:
            ended = self._read(messages, emit, stop)
        except openai.APITimeoutError as error:
            raise GenerationFailed("time-out", transient=True) from error
        except openai.APIConnectionError as error:
            raise GenerationFailed("unreachable", transient=True) from error
        except openai.APIStatusError as error:
            logger.warning(
                "the model server answered %d after %.1f s", error.status_code, time.perf_counter() - started
            )
            transient = error.status_code in TRANSIENT_STATUSES or error.status_code >= 500
            raise GenerationFailed("unreachable" if transient else "refused", transient=transient) from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:  # not a chat completion
            logger.warning("cannot read the response of the model server: %s", type(error).__name__)
            raise GenerationFailed("failed") from error
        if not ended and not stop.is_set():
            raise GenerationFailed("cut off")

    def _read(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> bool:
        """Generate the text. Returns True if the model ended it, False if it was cut off."""
        ended = False
        chat: Any = messages
        with self._client.chat.completions.create(
            model=self._model, messages=chat, max_tokens=MAX_NEW_TOKENS, temperature=0, stream=True
        ) as stream:
            for chunk in stream:
                if stop.is_set():
                    break
                for choice in chunk.choices:  # a chunk that reports usage has no choices
                    if choice.delta.content:
                        emit(choice.delta.content)
                    ended = ended or choice.finish_reason == "stop"
        return ended


def _all(ids: Any, done: bool) -> Any:
    """(batch,) bool: the return value of a stopping criterion."""
    import torch

    return torch.full((ids.shape[0],), done, dtype=torch.bool, device=ids.device)
