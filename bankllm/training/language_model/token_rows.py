"""Turn examples into token rows: a prompt, which is read, and a completion, which is learnt.

rows = token_rows(tellerchat.read(path), tokenizer, max_length=512)
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from bankllm.assistant.bank.tools import parse_calls
from bankllm.assistant.language.language_tasks import Chat, calls_text, understand_prompt, word_prompt
from bankllm.datasets.tellerchat import Understand, Word
from bankllm.errors import DataError, UsageError

Example = Understand | Word


class TokenRow(NamedTuple):
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    """Tokens that count in the loss, with the token that ends the model's turn."""

    @property
    def length(self) -> int:
        return len(self.prompt) + len(self.completion)


class TokenRows(NamedTuple):
    rows: list[TokenRow]
    too_long: list[int]
    """Positions, from 0, of the examples that were left out because they have more than `max_length` tokens."""


def token_rows(examples: Sequence[Example], tokenizer: Any, max_length: int) -> TokenRows:
    """Tokenise examples, with a tokenizer of `chat_tokenizer`."""
    texts = [prompt_and_completion(example, tokenizer) for example in examples]
    rows = [TokenRow(*(tuple(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in row)) for row in texts]
    too_long = [number for number, row in enumerate(rows) if row.length > max_length]
    return TokenRows([row for row in rows if row.length <= max_length], too_long)


def prompt_and_completion(example: Example, tokenizer: Any) -> tuple[str, str]:
    """The text of the prompt with all control tokens, and the text that the model has to write."""
    chat, completion = task_of(example)
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return prompt, completion + tokenizer.eos_token


def task_of(example: Example) -> tuple[Chat, str]:
    """The prompt of an example as a chat, and the expected output."""
    if isinstance(example, Understand):
        return understand_prompt(example.messages), calls_text(example.calls)
    return word_prompt(example.message, example.facts), example.reply


def check_examples(examples: Iterable[Example], source: str) -> None:
    """Raise `DataError` with the number of the first example that teaches something wrong.

    That is a call of an unknown tool, a value that the customer did not write, or a required piece that the reply
    lacks.
    """
    for number, example in enumerate(examples, start=1):
        try:
            fault = _fault(example)
        except UsageError as error:
            fault = str(error)
        if fault:
            raise DataError(f"{source}, example {number}: {fault} Correct the example or remove it.")


def _fault(example: Example) -> str:
    if isinstance(example, Word):
        lacking = [piece for piece in example.required if piece not in example.reply]
        return f"the reply lacks {lacking[0]!r}, which `required` lists." if lacking else ""
    found = parse_calls(json.dumps(example.calls), example.messages)
    if found.dropped:
        return f"the value of {found.dropped[0]} is no piece of a message. Copy it letter by letter."
    return "" if len(found.calls) == len(example.calls) else "a call lacks a required argument."


def loss_mask(row: TokenRow, tokenizer: Any) -> list[dict[str, object]]:
    """One row per token of an example, for a table: `token` as text, `id`, and `in_loss` (True for the completion)."""
    tokens = [*((id, False) for id in row.prompt), *((id, True) for id in row.completion)]
    return [{"token": tokenizer.decode([id]), "id": id, "in_loss": in_loss} for id, in_loss in tokens]
