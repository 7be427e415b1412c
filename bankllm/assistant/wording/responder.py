"""The interface of a responder, its output, and the registry of responders by the scheme of their address."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from bankllm.assistant.facts import Facts, Request
from bankllm.settings import Settings
from bankllm.util.registry import Registry

Fallback = Literal[
    "abstained",
    "busy",
    "cut off",
    "empty",
    "failed",
    "left",
    "not grounded",
    "refused",
    "resting",
    "time-out",
    "unreachable",
    "unreadable",
    "unsure",
]
"""Why a reply has the text of the facts although a language model is configured. `abstained`: there are no facts to
word. `busy`: too many replies are being generated, or this one would be late. `failed`: an unexpected error or
response. `left`: the client has left, or the server stops. `not grounded`: the text states what the facts do not say,
or leaves one out. `refused`: a permanent error. `resting`: the circuit breaker is open. `unreadable`: the output is no
list of tool calls, or the prompt is too long. `unsure`: an improbable token, or a value that is no copy."""


@dataclass(frozen=True)
class Reply:
    text: str
    responder: str = "template"
    """Name of the responder that generated the text: `template` after a fallback."""
    fallback: Fallback | None = None


class Responder(Protocol):
    """Words the facts. Thread-safe."""

    name: str
    waits: bool
    """Whether a reply may take long; it is then never generated in one thread with others."""

    def stream(self, request: Request, facts: Facts) -> Iterator[str | Reply]:
        """Yield the text in pieces while it is generated, then the whole. With a `fallback` it replaces the pieces."""
        ...


RESPONDERS: Registry[Callable[[str, Settings], Responder]] = Registry(
    "responder", "bankllm.responders", "bankllm.assistant.wording.responders"
)
"""Scheme → function that makes the responder from the rest of the address."""


def make_responder(address: str, settings: Settings) -> Responder:
    """Make the responder at `SCHEME` or `SCHEME:REST`. Raises `UsageError` for an address that cannot be read, and
    `ModelError` for a missing model."""
    scheme, _, rest = address.partition(":")
    return RESPONDERS.get(scheme)(rest, settings)
