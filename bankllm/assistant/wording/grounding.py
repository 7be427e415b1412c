"""The guard of wording: generated words are released only while figures and claims are those of the facts.

A word is held back as long as the sentence up to it has a fault: the word that makes a sentence false is never
released, and one that only the rest of the sentence makes right waits for it. What the reply leaves out shows only at
its end. The text of the facts then replaces what was released, as after any other fault.
"""

import re
from collections.abc import Iterable, Iterator

from bankllm.assistant.wording.assertions import Claims
from bankllm.util.figures import find_figures, known_figures

_SENTENCE_END = re.compile(r"[.!?…]+[\"”’')\]]*(?=\s)|\S(?=\n)")
_WORD = re.compile(r"(?:\[[^\]]*\]|[^\s\[])+(?=\s)")
"""A complete word. A mask such as `[card …0101]` is one word."""
LONG = 300
"""Characters of a sentence from which the rest of it is released only as a whole: the checks read it from the start."""


class NotGrounded(Exception):
    """A text states what the facts do not say, or leaves out one of them."""


def grounded(pieces: Iterable[str], listing: str) -> Iterator[str]:
    """Yield the text of the pieces in whole words, stripped. Raises `NotGrounded`.

    `listing` has one fact a line. What is yielded so far is always a beginning of the whole text, and passes all
    checks but the one for facts that are left out. The last complete word waits for the next one, because a figure may
    have two (“5 million”).
    """
    known, claims = known_figures(listing), Claims(listing.splitlines())
    text, begin, shown = "", 0, 0

    def holds(end: int) -> bool:
        return find_figures(text[:end]) <= known and not claims.faults_of(text[begin:end])

    for piece in pieces:
        text = text + piece if shown else (text + piece).lstrip()
        while found := _SENTENCE_END.search(text, max(begin, shown - 1)):
            if not holds(found.end()):
                raise NotGrounded
            if found.end() > shown:
                yield text[shown : found.end()]
            begin = shown = found.end()
        complete = list(_WORD.finditer(text, shown)) if len(text) <= begin + LONG else []
        if len(complete) > 1 and holds(complete[-1].end()) and not _is_one_figure(*complete[-2:]):
            yield text[shown : complete[-2].end()]
            shown = complete[-2].end()
    text = text.rstrip()
    if not holds(len(text)) or claims.drops(text):
        raise NotGrounded
    if len(text) > shown:
        yield text[shown:]


def _is_one_figure(*words: re.Match[str]) -> bool:
    """Whether two words may be parts of one figure, such as “1 204.50”."""
    return all(any(letter.isdigit() for letter in word[0]) for word in words)
