"""What a tool is asked and what it returns, and the registry of the tools (`TOOLS`).

A reply may state only what a tool returned. Each module in `tools/` also words its facts; a responder either sends that
text or lets a language model word the facts again.
"""

from collections.abc import Callable, Set, Sized
from dataclasses import dataclass

from bankllm.assistant.bank.ledger import Bank
from bankllm.util.registry import Registry
from bankllm.vectors.rows import Match


@dataclass(frozen=True)
class Request:
    message: str
    """Account numbers are masked."""
    customer_id: str
    intent: str
    earlier: Match | None = None
    """An earlier message of the same customer about the same topic, masked and shortened for a quotation."""


@dataclass(frozen=True)
class Facts:
    text: str
    """The reply in the bank's own words."""
    lines: tuple[str, ...] = ()
    """The facts for a language model, which may state no other figure. They never contain the customer's own words: an
    amount that a customer claims is not a fact. Empty if `text` must be sent unchanged."""
    sources: tuple[str, ...] = ()
    """`ledger:<account>`, `knowledge:<intent>`, `memory:<id>`."""
    private: tuple[str, ...] = ()
    """Account numbers in `lines`, which a model on another machine must not see."""


@dataclass(frozen=True)
class Tool:
    intents: Set[str]
    look_up: Callable[[Request, Bank], Facts]
    """Returns facts of the request's customer only, and raises what the bank raises. Called from several threads."""


TOOLS: Registry[Tool] = Registry("tool", "bankllm.tools", "bankllm.assistant.tools")


def tools_by_intent() -> dict[str, Tool]:
    """Intent → the tool that answers it. A tool of another package takes over the intents that it names."""
    return {intent: tool for tool in map(TOOLS.get, TOOLS) for intent in tool.intents}


def counted(rows: Sized, noun: str) -> str:
    return f"The customer has {len(rows)} {noun}{'' if len(rows) == 1 else 's'}."
