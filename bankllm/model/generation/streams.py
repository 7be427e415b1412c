"""What every generation engine takes and returns: requests, and streams of text that can be cancelled."""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from bankllm.errors import BankLLMError, ModelError, UsageError

Finish = Literal["end", "length", "cancelled"]


@dataclass(frozen=True)
class GenerationRequest:
    chat: Sequence[Mapping[str, str]]
    """Messages with `role` and `content`."""
    max_tokens: int = 256
    schema: Mapping[str, Any] | None = None
    """JSON Schema that the text must match, see `json_grammar`."""
    copied_from: Sequence[str] = ()
    """Texts of which each free string in the JSON must be a piece."""


class TextStream:
    """The text of one request. Iterate over it once; the engine fills it in a thread of its own."""

    def __init__(self, tokenizer: Any) -> None:
        self.token_ids: list[int] = []
        """Tokens generated so far, with the one that ends the text."""
        self.finish: Finish | None = None
        """Why the text ended: the model ended it, it has `max_tokens` tokens, or it was cancelled. None before."""
        self.cancelled = threading.Event()
        self._tokenizer = tokenizer
        self._new: queue.SimpleQueue[list[int] | Finish | BaseException] = queue.SimpleQueue()

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
            self.token_ids += got
            pieces = [decoder.step(self._tokenizer.backend_tokenizer, token) for token in got]
            if text := "".join(filter(None, pieces)):
                yield text

    def text(self) -> str:
        """Wait for the end, and return the rest of the text."""
        return "".join(self)

    def cancel(self) -> None:
        """End the text after the token that is being generated."""
        self.cancelled.set()

    def put(self, got: list[int] | Finish | BaseException) -> None:
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

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # those of transformers and tokenizers have no common base
        raise ModelError(
            f"The tokenizer of {name} cannot be loaded ({type(error).__name__}). Expected tokenizer.json and "
            "tokenizer_config.json beside the weights."
        ) from error
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
    try:
        ids: list[int] = tokenizer.apply_chat_template(
            request.chat, add_generation_prompt=True, return_dict=False, enable_thinking=False
        )
    except Exception as error:  # a template raises errors of Jinja, and its own
        raise UsageError(f"The chat does not fit the model's chat template: {error}") from error
    if len(ids) + request.max_tokens > tokenizer.model_max_length:
        raise UsageError(
            f"The prompt has {len(ids)} tokens. With max_tokens={request.max_tokens} that is more than the "
            f"{tokenizer.model_max_length} tokens of the model's context. Shorten the prompt."
        )
    return ids


def failure(error: Exception, name: str) -> BankLLMError:
    return ModelError(f"{name} stopped generating ({type(error).__name__}: {str(error)[:200]}).")
