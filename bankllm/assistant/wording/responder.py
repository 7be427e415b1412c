"""The interface of a responder, its output, and the registry of responders by the scheme of their address."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from bankllm.assistant.facts import Facts, Request
from bankllm.assistant.language.fallbacks import Fallback
from bankllm.settings import Settings
from bankllm.util.registry import Registry


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
