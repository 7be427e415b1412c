"""Grounding check: a generated text reaches the customer only if every figure in it is among the facts.

Words are released as soon as they are generated. From the first word that may belong to a figure, the rest of the
sentence is held back until the sentence is complete and has passed the check. It is not enough to hold back the last
word: “10” may be a fact and then continue as “10 million pounds”. Most sentences contain no figure and are not delayed.
"""

import re
from collections.abc import Iterable, Iterator

from bankllm.assistant.wording.figures import MAY_BE_PART, find_figures

_SENTENCE_END = re.compile(r"[.!?…]+[\"”’')\]]*(?=\s)|\n")
_LAST_SPACE = re.compile(r"\s+\S*$")


class NotGrounded(Exception):
    """A text states a figure that is not among the facts."""


def is_grounded(text: str, listing: str) -> bool:
    """Whether the listed facts contain every figure of the text.

    It compares only the figures, not what the text says about them: it does not detect two balances that are swapped.
    """
    return find_figures(text) <= find_figures(listing)


def grounded(pieces: Iterable[str], listing: str) -> Iterator[str]:
    """Yield the text of the pieces in checked pieces, without empty ones. Raises `NotGrounded`."""
    stream = GroundedStream(listing)
    for piece in pieces:
        if text := stream.feed(piece):
            yield text
    if text := stream.finish():
        yield text


class GroundedStream:
    """Filters a text that arrives in pieces, and releases the part that may be shown.

    At every point the released pieces together are a prefix of the text, and this prefix passes the check.
    """

    def __init__(self, listing: str) -> None:
        self._known = find_figures(listing)
        self._text = ""
        self._shown = 0
        self._checked = 0

    def feed(self, piece: str) -> str:
        """Add a piece and return what may be shown now. Raises `NotGrounded` if a complete sentence fails the check."""
        self._text = (self._text + piece).lstrip() if not self._shown else self._text + piece
        for end in _SENTENCE_END.finditer(self._text, self._checked):
            self._check(end.end())
        return self._release(self._safe_end())

    def finish(self) -> str:
        """Check and return the rest of the text after its last piece. Raises `NotGrounded`."""
        self._text = self._text.rstrip()
        self._check(len(self._text))
        return self._release(len(self._text))

    def _check(self, end: int) -> None:
        if not find_figures(self._text[:end]) <= self._known:
            raise NotGrounded
        self._checked = end

    def _safe_end(self) -> int:
        """End of the complete words that cannot be part of a figure. White space is released with the next word."""
        part = MAY_BE_PART.search(self._text, self._checked)
        complete = self._text[: part.start() + 1 if part else len(self._text)]
        space = _LAST_SPACE.search(complete)
        end = max(space.start() if space else 0, len(self._text[: self._checked].rstrip()))
        return end if end <= self._shown or find_figures(self._text[:end]) <= self._known else self._shown

    def _release(self, end: int) -> str:
        start, self._shown = self._shown, max(self._shown, end)
        return self._text[start : self._shown]
