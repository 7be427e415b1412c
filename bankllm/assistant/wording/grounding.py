"""Grounding check: a generated text reaches the customer only if every figure in it is among the facts.

Words are released as soon as they are generated. From the first word that may belong to a figure, the rest of the
sentence is held back until the sentence is complete and has passed the check. It is not enough to hold back the last
word: “10” may be a fact and then continue as “10 million pounds”. Most sentences contain no figure and are not delayed.
"""

import re
from collections.abc import Iterable, Iterator

from bankllm.util.figures import MAY_BE_PART, find_figures, known_figures

_SENTENCE_END = re.compile(r"[.!?…]+[\"”’')\]]*(?=\s)|\n")
_LAST_SPACE = re.compile(r"\s+\S*$")


class NotGrounded(Exception):
    """A text states a figure that is not among the facts."""


def grounded(pieces: Iterable[str], listing: str) -> Iterator[str]:
    """Yield the text of the pieces as soon as it may be shown, stripped. Raises `NotGrounded`.

    The text yielded so far is always a prefix of the whole text, and this prefix passes the check. The check compares
    only the figures, not what the text says about them: it does not detect two balances that are swapped.
    """
    known = known_figures(listing)
    text, shown, checked = "", 0, 0
    for piece in pieces:
        text = text + piece if shown else (text + piece).lstrip()
        for sentence in _SENTENCE_END.finditer(text, checked):
            checked = sentence.end()
            if not find_figures(text[:checked]) <= known:
                raise NotGrounded
        # Complete words that cannot be part of a figure are safe. White space is released with the next word.
        part = MAY_BE_PART.search(text, checked)
        space = _LAST_SPACE.search(text[: part.start() if part else len(text)])
        safe = max(space.start() if space else 0, len(text[:checked].rstrip()))
        if safe > shown and find_figures(text[:safe]) <= known:
            yield text[shown:safe]
            shown = safe
    text = text.rstrip()
    if not find_figures(text) <= known:
        raise NotGrounded
    if len(text) > shown:
        yield text[shown:]
