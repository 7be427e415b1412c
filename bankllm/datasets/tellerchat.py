"""TellerChat: hand-written examples of the two tasks of the language model, packaged with bankllm (CC0).

*understand*: a customer's messages and the tool calls that they ask for. *word*: a message, facts, and the reply that
states them. Files of a user have the same format: JSON Lines, one example a line.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bankllm.errors import DataError, explained
from bankllm.util.text import is_blank

FOLDER = Path(__file__).parents[1] / "data" / "tellerchat"
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Understand(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    messages: Annotated[tuple[Text, ...], Field(min_length=1, max_length=3)]
    """Messages of one customer, oldest first; the last one is to be understood."""
    calls: Annotated[tuple[dict[str, Text], ...], Field(max_length=5)]
    """Tool calls, see `bankllm.assistant.bank.tools`; empty where nothing fits."""
    phenomena: tuple[Text, ...] = ()
    """Kinds of difficulty, such as `typo` or `two_wishes`."""


class Word(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    message: Text
    facts: Annotated[tuple[Text, ...], Field(min_length=1, max_length=10)]
    """Results of tools, one sentence each. A reply states no other figure."""
    reply: Text
    required: tuple[Text, ...] = ()
    """Pieces of the reply that no reply may lack, such as amounts."""


Example = TypeVar("Example", Understand, Word)


def load(task: type[Example], split: Literal["train", "test"]) -> list[Example]:
    """Return the packaged examples of `Understand` or `Word`."""
    path = FOLDER / f"{task.__name__.lower()}_{split}.jsonl"
    return [example for example in read(path) if isinstance(example, task)]


def read(path: Path) -> list[Understand | Word]:
    """Read a file of examples. Raises `DataError` that names the line of the first invalid example."""
    with explained(DataError, f"{path} cannot be read", "Expected JSON Lines in UTF-8."):
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    examples: list[Understand | Word] = []
    for number, line in enumerate(lines, 1):
        if is_blank(line):
            continue
        task = Understand if '"messages"' in line else Word
        try:
            examples.append(task.model_validate_json(line))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise DataError(
                f"{path}, line {number}, {where}: {first['msg']}. Expected a JSON object with messages and calls, or "
                "with message, facts and reply."
            ) from None
    if not examples:
        raise DataError(f"{path} has no examples. Expected JSON Lines, one example a line.")
    return examples
