"""Language models that continue a chat: one in this process, one behind a server that speaks OpenAI's protocol.

Both write greedily, hand over their text piece by piece as it comes, and stop when they are told to.
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
"""Four sentences and a few figures take about a hundred."""
BUSY_STATUSES = frozenset({408, 409, 429})
"""What a server answers that may answer better a moment later, as it may after any 5xx."""

logger = logging.getLogger(__name__)

Messages = list[dict[str, str]]


class GenerationFailed(Exception):
    """No whole text came. Holds no text of the model's or the server's."""

    def __init__(self, reason: Fallback, transient: bool = False) -> None:
        super().__init__(reason)
        self.reason: Fallback = reason
        self.transient = transient
        """Whether asking once more may help."""


class LanguageModel(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def is_remote(self) -> bool: ...

    def write(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> None:
        """Hand the text to `emit` as it comes, until it ends or `stop` is set. Raises `GenerationFailed`."""
        ...


class TransformersModel:
    """A causal language model of a Hub id or a folder, loaded once. It writes one text at a time."""

    is_remote = False

    def __init__(self, location: str, settings: Settings) -> None:
        """Raises `ModelError` where it cannot be loaded."""
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
        self._turn = threading.Lock()

    def write(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> None:
        while not self._turn.acquire(timeout=0.1):
            if stop.is_set():
                return
        try:
            # torch raises RuntimeError (out of memory too) and IndexError, a chat template ValueError and its own.
            ended = self._generate(messages, emit, stop)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            logger.warning("generation failed: %s", type(error).__name__)
            raise GenerationFailed("failed") from error
        finally:
            self._turn.release()
        if not ended and not stop.is_set():
            raise GenerationFailed("cut off")

    def _generate(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> bool:
        """Whether the model ended its text itself."""
        from transformers import GenerationConfig, StoppingCriteriaList, TextStreamer

        streamer: Any = TextStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        streamer.on_finalized_text = lambda text, stream_end=False: emit(text)
        inputs = self._encode(messages).to(self._model.device)
        ends = self._model.generation_config.eos_token_id
        output = self._model.generate(
            **inputs,
            # A config of its own: the model's may ask for sampling, and then warns that greedy decoding ignores it.
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
        """The chat as the model was trained to see it; without a template, its contents one after the other."""
        if self._tokenizer.chat_template is None:
            text = "\n\n".join(message["content"] for message in messages)
            return self._tokenizer(f"{text}\n\nReply: ", return_tensors="pt", return_token_type_ids=False)
        # A model that can think aloud first is asked not to; other templates pass the flag over.
        options = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt", "enable_thinking": False}
        return self._tokenizer.apply_chat_template(messages, **options)


class OpenAIModel:
    """A model behind a server that speaks OpenAI's protocol: vLLM, llama.cpp, Ollama, `transformers serve`, OpenAI."""

    is_remote = True

    def __init__(self, base_url: str, model: str, settings: Settings) -> None:
        from openai import OpenAI

        key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else "none"
        # Retries are the responder's: the client's own would sleep for as long as a server asks.
        self._client = OpenAI(base_url=base_url, api_key=key, timeout=settings.responder_timeout_s, max_retries=0)
        self._model = model
        # A server may know its model by a folder; its path is no one else's business.
        self.name = f"openai:{PurePath(model).name if model.startswith('/') else model}"

    def write(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> None:
        import openai

        began = time.perf_counter()
        try:
            ended = self._read(messages, emit, stop)
        except openai.APITimeoutError as error:
            raise GenerationFailed("time-out", transient=True) from error
        except openai.APIConnectionError as error:
            raise GenerationFailed("unreachable", transient=True) from error
        except openai.APIStatusError as error:
            logger.warning("the model server answered %d after %.1f s", error.status_code, time.perf_counter() - began)
            busy = error.status_code in BUSY_STATUSES or error.status_code >= 500
            raise GenerationFailed("unreachable" if busy else "refused", transient=busy) from error
        except (openai.OpenAIError, ValueError, AttributeError, TypeError) as error:  # an answer that is no chat
            logger.warning("the model server's answer cannot be read: %s", type(error).__name__)
            raise GenerationFailed("failed") from error
        if not ended and not stop.is_set():
            raise GenerationFailed("cut off")

    def _read(self, messages: Messages, emit: Callable[[str], object], stop: threading.Event) -> bool:
        """Whether the model ended its text itself."""
        ended = False
        chat: Any = messages
        with self._client.chat.completions.create(
            model=self._model, messages=chat, max_tokens=MAX_NEW_TOKENS, temperature=0, stream=True
        ) as stream:
            for chunk in stream:
                if stop.is_set():
                    break
                for choice in chunk.choices:  # none in a chunk that reports usage
                    if choice.delta.content:
                        emit(choice.delta.content)
                    ended = ended or choice.finish_reason == "stop"
        return ended


def _all(ids: Any, done: bool) -> Any:
    """(batch,) bool: what a stopping criterion gives."""
    import torch

    return torch.full((ids.shape[0],), done, dtype=torch.bool, device=ids.device)
