"""The guard of wording: a generated sentence is released only if its figures and claims are those of the facts.

Each sentence is checked before any of it is released. What the reply leaves out shows only at its end; the text of the
facts then replaces what was released, as after any other fault.
"""

import re
from collections.abc import Iterable, Iterator

from bankllm.assistant.wording.assertions import Claims
from bankllm.util.figures import find_figures, known_figures

_SENTENCE_END = re.compile(r"[.!?…]+[\"”’')\]]*(?=\s)|\S(?=\n)")


class NotGrounded(Exception):
    """A text states what the facts do not say, or leaves out one of them."""


def grounded(pieces: Iterable[str], listing: str) -> Iterator[str]:
    """Yield the text of the pieces sentence by sentence, stripped. Raises `NotGrounded`.

    `listing` has one fact a line. What is yielded so far is always a beginning of the whole text, and passes all
    checks but the one for facts that are left out.
    """
    known, claims = known_figures(listing), Claims(listing.splitlines())
    text, shown = "", 0

    def checked(end: int) -> str:
        if not find_figures(text[:end]) <= known or claims.faults_of(text[shown:end]):
            raise NotGrounded
        return text[shown:end]

    for piece in pieces:
        text = text + piece if shown else (text + piece).lstrip()
        while found := _SENTENCE_END.search(text, shown):
            yield checked(found.end())
            shown = found.end()
    text = text.rstrip()
    if len(text) > shown:
        yield checked(len(text))
    if claims.drops(text):
        raise NotGrounded
