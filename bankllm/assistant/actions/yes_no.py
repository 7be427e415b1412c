"""What counts as a yes and as a no to a proposal: closed lists of words in 16 languages. No model decides it.

Each word of the message must be listed: `yes` or `no`, and words that change nothing `beside` it; words that may also
only acknowledge what was said ("ok") are a yes `alone`. Case, punctuation and repeated spaces do not count. A message
with any other word or with a question mark is neither: "yes, but make it £20" confirms nothing. Words that only restate
the action that waits are left out before (`bankllm.assistant.orders.restated`).
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from bankllm.assistant.bank.knowledge import DATA

THANKS = re.compile(r"\b(?:thank\w*|cheers|ta)\b")
IRONY = re.compile(r"(?:y(?:ea+h?|a|ah|eh|ep|up)|(?:och )?aye) right\b.*|.*\b(?:lol|haha)\b.*")
"""What sounds like a yes, and often means no: it is asked again."""
KEEPS = re.compile(r"\b(?:send|carry on|crack on)\b")
"""Words of a yes to a payment, which may mean no where its cancellation waits."""
LONGEST = 60
"""Characters of the longest message that is compared."""


def is_yes(message: str) -> bool:
    words = _plain(message)
    return _listed("yes").fullmatch(words) is not None and not IRONY.fullmatch(words)


def nearly_yes(message: str) -> bool:
    """Whether a message has only words that may stand beside a yes ("correct"), and no thanks: it is asked again."""
    words = _plain(message)
    return bool(words) and not is_yes(words) and is_yes(f"yes {words}") and not THANKS.search(words)


def says_yes_to(tool: str, message: str) -> bool:
    """Whether a message says yes to an action of this tool: "send it" is no yes to a cancellation."""
    return is_yes(message) and not (tool == "cancel_transfer" and KEEPS.search(_plain(message)))


def is_no(message: str) -> bool:
    return _listed("no").fullmatch(_plain(message)) is not None


def _plain(message: str) -> str:
    """Return the message in lower case, without punctuation, invisible characters and repeated spaces."""
    text = unicodedata.normalize("NFKC", message[: LONGEST + 1]).casefold()
    if len(message) > LONGEST or "?" in text or "؟" in text:
        return ""
    letters = "".join(letter for letter in text if letter.isspace() or unicodedata.category(letter)[0] not in "CP")
    return " ".join(letters.split())


@cache
def _listed(answer: str) -> re.Pattern[str]:
    by_language = json.loads((DATA / "yes_no.json").read_text(encoding="utf-8"))
    return re.compile("|".join(_forms(words, answer) for words in by_language.values()))


def _forms(words: Mapping[str, Sequence[str]], answer: str) -> str:
    """Return a regular expression for the answer in one language, beside words that change nothing."""
    said = _any(words[answer])
    beside = _any([*words[answer], *words.get("beside", ()), *words.get(f"beside_{answer}", ())])
    alone = words.get("alone", ()) if answer == "yes" else ()
    return rf"(?:{beside} )*{said}(?: {beside})*" + "".join(f"|{re.escape(_plain(one))}" for one in alone)


def _any(phrases: Iterable[str]) -> str:
    return f"(?:{'|'.join(re.escape(_plain(phrase)) for phrase in phrases)})"
