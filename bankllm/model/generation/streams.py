"""What every generation engine takes and returns: requests, and streams of text that can be cancelled."""

import math
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bankllm.errors import BankLLMError, ModelError, UsageError, explained

Finish = Literal["end", "length", "late", "cancelled"]
Tokens = list[tuple[int, float]]
"""Tokens with the logarithms of their probabilities, after the constraint if there is one."""


@dataclass(frozen=True)
class GenerationRequest:
    chat: Sequence[Mapping[str, str]]
    """Messages with `role` and `content`."""
    max_tokens: int = 256
    schema: Mapping[str, Any] | None = None
    """JSON Schema that the text must match, see `json_grammar`."""


class TextStream:
    """The text of one request. Iterate over it once; the engine fills it in a thread of its own."""

    def __init__(self, tokenizer: Any, prompt_tokens: int = 0) -> None:
        self.prompt_tokens = prompt_tokens
        self.token_ids: list[int] = []
        """Tokens generated so far, with the one that ends the text."""
        self.written = ""
        """Text so far."""
        self.confidence = 1.0
        """The model's probability of the least likely token so far."""
        self.finish: Finish | None = None
        """Why the text ended: the model ended it, it has `max_tokens` tokens, its time was over, or it was cancelled.
        None before."""
        self.cancelled = threading.Event()
        self._tokenizer = tokenizer
        self._new: queue.SimpleQueue[Tokens | Finish | BaseException] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[str]:
        """Yield the text in pieces. Raises what the engine raised."""
        from tokenizers.decoders import DecodeStream

        decoder = DecodeStream(skip_special_tokens=True)
        while self.finish is None:
            got = self._new.get()
            if isinstance(got, BaseException):
                raise got
            if isinstance(got, str):
                self.finish = got
                return
            self.token_ids += [token for token, _ in got]
            self.confidence = min([self.confidence, *(math.exp(logarithm) for _, logarithm in got)])
            pieces = [decoder.step(self._tokenizer.backend_tokenizer, token) for token, _ in got]
            if text := "".join(filter(None, pieces)):
                self.written += text
                yield text

    def text(self) -> str:
        """Wait for the end, and return the rest of the text."""
        return "".join(self)

    def cancel(self) -> None:
        """End the text after the token that is being generated."""
        self.cancelled.set()

    def put(self, got: Tokens | Finish | BaseException) -> None:
        """For the engine: add tokens, or end the stream."""
        self._new.put(got)


class GenerationEngine(Protocol):
    name: str

    def generate(self, requests: Sequence[GenerationRequest]) -> list[TextStream]:
        """Start to generate, and return at once. Thread-safe. Raises `UsageError` for a request that is not valid."""
        ...

    def close(self) -> None:
        """Cancel what is being generated, and end the engine's thread."""
        ...


def chat_tokenizer(folder: str, name: str) -> Any:
    """Load the tokenizer of a causal language model. Raises `ModelError` if it has no chat template."""
    from transformers import AutoTokenizer

    fault = f"The tokenizer of {name} cannot be loaded"
    with explained(ModelError, fault, "Expected tokenizer.json and tokenizer_config.json."):
        tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.chat_template is None:
        raise ModelError(
            f"The tokenizer of {name} has no chat template, so it cannot read a chat. Expected an instruction-tuned "
            "model with chat_template.jinja, or `chat_template` in tokenizer_config.json."
        )
    return tokenizer


def prompt_ids(tokenizer: Any, request: GenerationRequest) -> list[int]:
    """Return the tokens of a request's chat. Raises `UsageError` if the model cannot read or answer it."""
    if request.max_tokens < 1:
        raise UsageError(f"Expected max_tokens of at least 1, got {request.max_tokens}.")
    fault = "The chat does not fit the model's chat template"  # which raises errors of Jinja, and its own
    with explained(UsageError, fault, "Expected the roles that the template has, in its order."):
        ids: list[int] = tokenizer.apply_chat_template(
            request.chat, add_generation_prompt=True, return_dict=False, enable_thinking=False
        )
    if len(ids) + request.max_tokens > tokenizer.model_max_length:
        raise UsageError(
            f"The prompt has {len(ids)} tokens. With max_tokens={request.max_tokens} that is more than the "
            f"{tokenizer.model_max_length} tokens of the model's context. Shorten the prompt."
        )
    return ids


def failure(error: Exception, name: str) -> BankLLMError:
    return ModelError(f"{name} stopped generating ({type(error).__name__}: {str(error)[:200]}).")
