"""Grounding check: a generated text reaches the customer only if every number in it is among the facts.

Words are released as soon as they are generated. From the first word that may belong to a number, the rest of the
sentence is held back until the sentence is complete and has passed the check. It is not enough to hold back the last
word: “10” may be a fact and then continue as “10 million pounds”. Most sentences contain no number and are not delayed.
"""

import re
from collections.abc import Callable

from bankllm.assistant.wording.numbers_in_text import MAY_BE_PART, find_numbers, is_among

_SENTENCE_END = re.compile(r"[.!?…]+[\"”’')\]]*(?=\s)|\n")
_LAST_SPACE = re.compile(r"\s+\S*$")


class NotGrounded(Exception):
    """A text states a number that is not among the facts."""


def grounded_in(listing: str) -> Callable[[str], bool]:
    """Return a check for texts: True if the listed facts contain every number that a text states.

    It compares only the numbers, not what the text says about them: it does not detect two balances that are swapped.
    """
    known = find_numbers(listing)
    return lambda text: all(is_among(number, known) for number in find_numbers(text))


class GroundedStream:
    """Filters a text that arrives in pieces, and releases the part that may be shown.

    At every point the released pieces together are a prefix of the text, and this prefix passes the check.
    """

    def __init__(self, is_grounded: Callable[[str], bool]) -> None:
        self._is_grounded = is_grounded
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
        if not self._is_grounded(self._text[:end]):
            raise NotGrounded
        self._checked = end

    def _safe_end(self) -> int:
        """End of the complete words that cannot be part of a number. White space is released with the next word."""
        part = MAY_BE_PART.search(self._text, self._checked)
        complete = self._text[: part.start() + 1 if part else len(self._text)]
        space = _LAST_SPACE.search(complete)
        end = max(space.start() if space else 0, len(self._text[: self._checked].rstrip()))
        return end if end <= self._shown or self._is_grounded(self._text[:end]) else self._shown

    def _release(self, end: int) -> str:
        start, self._shown = self._shown, max(self._shown, end)
        return self._text[start : self._shown]
