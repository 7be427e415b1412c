"""The tools that a language model may propose (`data/tools.toml`): their JSON Schemas, and the check of proposed calls.

A model never supplies an amount, a date or an identity. It copies words of the customer; code reads these words
afterwards. No tool confirms anything.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from bankllm.assistant.bank.knowledge import DATA
from bankllm.errors import UsageError

MAX_CALLS = 5
MAX_EARLIER = 2
"""Earlier messages of the customer from which a call may copy words."""
Call = Mapping[str, str]
"""`tool`, and its arguments: the customer's words, or values of an enumeration."""
DEFINED: dict[str, dict[str, Any]] = tomllib.loads((DATA / "tools.toml").read_text(encoding="utf-8"))
TOOL_NAMES = tuple(tool for tool, row in DEFINED.items() if row.get("trained", True))
"""What the language model and the tool head were trained on."""
MAX_WORDS = 400
"""Characters of the longest argument."""


class ProposedCalls(NamedTuple):
    """The calls of a model's output after all checks."""

    calls: tuple[Call, ...]
    dropped: tuple[str, ...] = ()
    """`tool.argument` of each value that is no copy, and was removed."""


@cache
def call_schemas() -> dict[str, dict[str, Any]]:
    """Tool → JSON Schema of its call."""
    words = {"maxLength": MAX_WORDS, "minLength": 1, "type": "string"}
    schemas = {}
    for tool, row in DEFINED.items():
        arguments = {
            name: words if values == "words" else {"enum": values, "type": "string"}
            for name, values in row.get("arguments", {}).items()
        }
        schemas[tool] = {
            "type": "object",
            "description": row["description"],
            "properties": {"tool": {"const": tool, "type": "string"}} | arguments,
            "required": ["tool", *row.get("required", ())],
            "additionalProperties": False,
        }
    return schemas


def calls_schema() -> dict[str, Any]:
    """Return the JSON Schema of a model's output: an array of at most `MAX_CALLS` calls."""
    return {"type": "array", "items": {"anyOf": [call_schemas()[tool] for tool in TOOL_NAMES]}, "maxItems": MAX_CALLS}


@cache
def copied_arguments(tool: str) -> frozenset[str]:
    """Names of the arguments that are copied from the customer's messages."""
    return frozenset(name for name, values in DEFINED[tool].get("arguments", {}).items() if values == "words")


def parse_calls(output: str, messages: Sequence[str]) -> ProposedCalls:
    """Read a model's output for the customer's `messages`, the last of which is to be understood.

    Spaces and line breaks count as one space. A value that is no copy of a piece of a message is dropped, and so is a
    call that then lacks a required argument. Raises `UsageError` for an output that is not JSON, an unknown tool or
    argument, and more than `MAX_CALLS` calls.
    """
    try:
        found = json.loads(output)
    except ValueError:
        raise UsageError(f"Expected a JSON array of calls, got {output[:80]!r}.") from None
    if not isinstance(found, list) or len(found) > MAX_CALLS:
        got = f"{len(found)} calls" if isinstance(found, list) else type(found).__name__
        raise UsageError(f"Expected a JSON array of at most {MAX_CALLS} calls, got {got}.")
    calls, dropped = [], []
    sources = [" ".join(message.split()) for message in messages]
    for call in map(checked_call, found):
        tool, kept = call["tool"], dict(call)
        for argument in copied_arguments(tool) & kept.keys():
            if not any(kept[argument] in source for source in sources):
                del kept[argument]
                dropped.append(f"{tool}.{argument}")
        if kept.keys() >= set(call_schemas()[tool]["required"]):
            calls.append(kept)
    return ProposedCalls(tuple(calls), tuple(dropped))


def checked_call(call: object) -> Call:
    """Return a call of a known tool with valid arguments. Raises `UsageError` that names tool and argument."""
    tool = call.get("tool") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(tool, str) or tool not in DEFINED:
        raise UsageError(f"Expected a call of one of {', '.join(TOOL_NAMES)}; got {json.dumps(call)[:80]}.")
    arguments, required = DEFINED[tool].get("arguments", {}), DEFINED[tool].get("required", ())
    call = {name: value for name, value in call.items() if value is not None}
    for name in dict.fromkeys([*required, *call]):
        value, values = call.get(name), arguments.get(name, [])
        fits = isinstance(value, str) and (0 < len(value) <= MAX_WORDS if values == "words" else value in values)
        if not fits and name != "tool":
            expected = f"a text of 1 to {MAX_WORDS} characters" if values == "words" else " or ".join(values)
            where = f"The call {json.dumps(call)[:120]} is not valid at {tool}.{name}"
            raise UsageError(f"{where}: expected {expected or 'no such argument'}.")
    return call
