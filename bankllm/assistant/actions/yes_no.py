"""What counts as a yes and as a no to a proposal: closed lists of whole messages in 16 languages. No model decides it.

A message is compared without regard to case, punctuation and spaces. Anything else, and anything with a question mark,
is neither: "yes, but make it £20" confirms nothing.
"""

import json
import unicodedata
from functools import cache

from bankllm.assistant.bank.knowledge import DATA

LONGEST = 60
"""Characters of the longest message that is compared."""


def is_yes(message: str) -> bool:
    return _plain(message) in _listed("yes")


def is_no(message: str) -> bool:
    return _plain(message) in _listed("no")


def _plain(message: str) -> str:
    """Return the message in lower case, without punctuation, invisible characters and repeated spaces."""
    text = unicodedata.normalize("NFKC", message[: LONGEST + 1]).casefold()
    if len(message) > LONGEST or "?" in text or "؟" in text:
        return ""
    spaced = " ".join(text.split())
    return "".join(letter for letter in spaced if unicodedata.category(letter)[0] not in "CP").strip()


@cache
def _listed(answer: str) -> frozenset[str]:
    by_language = json.loads((DATA / "yes_no.json").read_text(encoding="utf-8"))
    return frozenset(_plain(words) for answers in by_language.values() for words in answers[answer])
