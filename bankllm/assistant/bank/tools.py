"""The tools that a language model may propose: signatures, JSON Schemas, and the check of proposed calls.

A model never supplies an amount, a date or an identity. It copies words of the customer; code reads these words
afterwards. No tool confirms anything.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from bankllm.errors import UsageError

MAX_CALLS = 5
MAX_EARLIER = 2
"""Earlier messages of the customer from which a call may copy words."""
Call = Mapping[str, str]
"""`tool`, and its arguments: the customer's words, or values of an enumeration."""

Words = Annotated[str, Field(min_length=1, max_length=400)]
"""A piece of one of the customer's messages, letter by letter."""


class Tools(Protocol):
    """The tools by name. An argument of type `Words` is copied; an argument of type `Literal` is one of its values."""

    def balance(self, account: Words | None = None, date: Words | None = None) -> object:
        """Return the balances of the customer's accounts, of one account, or on one day."""

    def spending(
        self,
        merchant: Words | None = None,
        category: Words | None = None,
        period: Words | None = None,
        account: Words | None = None,
        direction: Literal["in", "out"] | None = None,
    ) -> object:
        """Return a sum: money out, or money in where `direction` is `in`."""

    def transactions(
        self,
        merchant: Words | None = None,
        category: Words | None = None,
        period: Words | None = None,
        limit: Words | None = None,
        order: Literal["newest", "oldest", "largest", "smallest"] | None = None,
        minimum: Words | None = None,
        maximum: Words | None = None,
    ) -> object:
        """Return a list of payments."""

    def account_details(self) -> object:
        """Return account number, sort code, IBAN, opening date and names of the accounts."""

    def standing_orders(self) -> object:
        """Return standing orders, direct debits and other regular payments."""

    def card_status(self) -> object:
        """Return for each card whether it is active, frozen or on its way, and when it expires."""

    def freeze_card(self, card: Words | None = None) -> object:
        """Propose to freeze a card."""

    def unfreeze_card(self, card: Words | None = None) -> object:
        """Propose to unfreeze a card."""

    def report_card(self, kind: Literal["lost", "stolen"]) -> object:
        """Propose to report a card as lost or stolen."""

    def replace_card(self) -> object:
        """Propose to order a new card for one that is damaged or expires."""

    def transfer(
        self,
        amount: Words | None = None,
        to: Words | None = None,
        from_: Words | None = None,
        date: Words | None = None,
        reference: Words | None = None,
    ) -> object:
        """Propose a transfer to a saved payee. The argument `from_` is `from` in a call."""

    def cancel_transfer(self) -> object:
        """Propose to cancel a transfer that is not booked yet."""

    def set_limit(self, card: Words | None = None, amount: Words | None = None) -> object:
        """Propose another spending limit of a card."""

    def knowledge(self, question: Words) -> object:
        """Return the help article that answers a question about fees, rules, products or how to do something."""

    def human_agent(self, reason: Words | None = None) -> object:
        """Hand the customer over to a person."""

    def small_talk(self) -> object:
        """Answer a greeting, thanks, a goodbye, or a question about the assistant."""


TOOL_NAMES = tuple(name for name in vars(Tools) if not name.startswith("_"))


class ProposedCalls(NamedTuple):
    """The calls of a model's output after all checks."""

    calls: tuple[Call, ...]
    dropped: tuple[str, ...] = ()
    """`tool.argument` of each value that is no copy, and was removed."""


@cache
def call_models() -> dict[str, type[BaseModel]]:
    """Tool → pydantic model of its call."""
    models = {}
    for name in TOOL_NAMES:
        function = getattr(Tools, name)
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {"tool": (Literal[name], ...)}
        for parameter in list(inspect.signature(function).parameters.values())[1:]:
            default = ... if parameter.default is parameter.empty else None
            fields[parameter.name.rstrip("_")] = (hints[parameter.name], default)
        models[name] = create_model(
            name, __doc__=function.__doc__, __config__=ConfigDict(extra="forbid", strict=True), **fields
        )
    return models


@cache
def call_schemas() -> dict[str, dict[str, Any]]:
    """Tool → JSON Schema of its call."""
    schemas = {}
    for name, model in call_models().items():
        found = model.model_json_schema()
        properties = {argument: schema.get("anyOf", [schema])[0] for argument, schema in found["properties"].items()}
        for schema in properties.values():
            schema.pop("title", None)
        schemas[name] = {
            "type": "object",
            "description": found["description"],
            "properties": properties,
            "required": found["required"],
            "additionalProperties": False,
        }
    return schemas


def calls_schema() -> dict[str, Any]:
    """Return the JSON Schema of a model's output: an array of at most `MAX_CALLS` calls."""
    return {"type": "array", "items": {"anyOf": list(call_schemas().values())}, "maxItems": MAX_CALLS}


@cache
def copied_arguments(tool: str) -> frozenset[str]:
    """Names of the arguments that are copied from the customer's messages."""
    properties = call_schemas()[tool]["properties"]
    return frozenset(name for name, schema in properties.items() if not {"enum", "const"} & schema.keys())


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
    if not isinstance(call, dict) or not isinstance(tool, str) or tool not in call_models():
        raise UsageError(f"Expected a call of one of {', '.join(TOOL_NAMES)}; got {json.dumps(call)[:80]}.")
    try:
        model = call_models()[tool].model_validate(call)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (tool, *first["loc"])))
        raise UsageError(f"The call {json.dumps(call)[:120]} is not valid at {where}: {first['msg']}.") from None
    return model.model_dump(exclude_none=True)
