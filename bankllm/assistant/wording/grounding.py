"""What a language model writes reaches the customer only while each of its figures is among the facts.

Words are shown as they come; from the first word that may belong to a figure on, the sentence is held back until it
is complete and all of it is checked. Holding back to the last word alone would not do: “10” may be a fact and grow
into “10 million pounds”. Holding back every sentence would be as safe, but most sentences hold no figure at all.
"""

import re
from collections.abc import Callable

from bankllm.assistant.wording.numbers_in_text import MAY_BE_PART, figures, is_among

_SENTENCE_END = re.compile(r"[.!?…]+[\"”’')\]]*(?=\s)|\n")
_LAST_SPACE = re.compile(r"\s+\S*$")


class NotGrounded(Exception):
    """A text states a figure that is not among the facts."""


def grounded_in(listing: str) -> Callable[[str], bool]:
    """A check of texts: whether the facts listed hold each figure that a text states.

    It compares figures, not what is said of them: two accounts' balances that are swapped pass.
    """
    known = figures(listing)
    return lambda text: all(is_among(figure, known) for figure in figures(text))


class GroundedStream:
    """A text that grows piece by piece; gives out what may be shown.

    Whatever has been given out so far is, taken together, the beginning of the text and passes the check.
    """

    def __init__(self, is_grounded: Callable[[str], bool]) -> None:
        self._is_grounded = is_grounded
        self._text = ""
        self._shown = 0
        self._judged = 0

    def feed(self, piece: str) -> str:
        """Take the next piece; give what may be shown now. Raises `NotGrounded` once a sentence states an invention."""
        self._text = (self._text + piece).lstrip() if not self._shown else self._text + piece
        for end in _SENTENCE_END.finditer(self._text, self._judged):
            self._judge(end.end())
        return self._show(self._harmless())

    def finish(self) -> str:
        """The text has ended: give the rest of it. Raises `NotGrounded`."""
        self._text = self._text.rstrip()
        self._judge(len(self._text))
        return self._show(len(self._text))

    def _judge(self, end: int) -> None:
        if not self._is_grounded(self._text[:end]):
            raise NotGrounded
        self._judged = end

    def _harmless(self) -> int:
        """Where the words end that are complete and part of no figure. White space waits for the word after it."""
        part = MAY_BE_PART.search(self._text, self._judged)
        complete = self._text[: part.start() + 1 if part else len(self._text)]
        space = _LAST_SPACE.search(complete)
        end = max(space.start() if space else 0, len(self._text[: self._judged].rstrip()))
        return end if end <= self._shown or self._is_grounded(self._text[:end]) else self._shown

    def _show(self, end: int) -> str:
        start, self._shown = self._shown, max(self._shown, end)
        return self._text[start : self._shown]
