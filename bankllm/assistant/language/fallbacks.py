"""Why a language model did not answer, and the error that says so."""

from typing import Literal

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


class GenerationFailed(Exception):
    """The model did not generate a complete text. The exception contains no text of the model or of the server."""

    def __init__(self, reason: Fallback, transient: bool = False) -> None:
        super().__init__(reason)
        self.reason: Fallback = reason
        self.transient = transient
        """Whether a retry may succeed."""
