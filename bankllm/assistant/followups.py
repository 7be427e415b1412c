"""Rules for follow-up messages: whether a message continues another one, or can be read without it."""

import re
from collections.abc import Iterator, Sequence

from bankllm.assistant.actions.yes_no import is_no, is_yes
from bankllm.assistant.bank.tools import MAX_EARLIER

COMPLETE_WORDS, LONGEST_CHAIN = 4, 4
"""Words of the shortest message that is read without the ones before it; most earlier messages that one continues."""
FEW_WORDS = 9
"""Words of the longest message whose pronoun is what it is about."""

_OPENING = r"^\W*(?:(?:oh|ok(?:ay)?|right|hm+|ah|so|now|thanks)\b\W*)*"
_CONTINUATION = re.compile(
    rf"{_OPENING}(?:and|also|what about|how about|same|then|plus)\b|.*[.!]\W+(?:and|(?:what|how) about)\b"
    rf"|{_OPENING}what (?:should|shall|can|do) i do(?: now| next| then)?\W*$",
    re.IGNORECASE,
)
_REFERS = re.compile(
    r"\bthis(?! (?:day|week|month|quarter|year|morning|evening|weekend)\b)"
    r"|\b(?:it|its|that|them|those|these|they|their|he|she|his|her|him|ones?|same|there|others?|another|instead|again"
    r"|rather|sorry|actually|already|no|not|mean|meant|make|only|just|more|rest)\b"
    r"|\b(?:day|week|month|quarter|year) (?:before|previous|prior)\W*$|^\W*which (?:do|have) (?:i|we)\b"
    r"|\b(?:(?:big|larg|small|cheap|high|low|new|lat|old|dear)\w*est|most expensive|last|first)\W*$",
    re.IGNORECASE,
)
"""Words that refer to an earlier message, or correct it."""
_POINTS = re.compile(
    r"\b(?:it|that|those|these|them|they|there|this)\b(?! (?:day|week|month|quarter|year))", re.IGNORECASE
)
_POINTS_LAST = re.compile(
    r"\b(?:it|that|those|these|them|this|one|there)"
    r"(?: (?:later|then|too|online|in the app|myself|now|back|again|please|for me|at any time|any ?time))*\W*$",
    re.IGNORECASE,
)
_FRAGMENT = re.compile(
    rf"{_OPENING}(?:how (?:much|many) )?(?:from|at|in|on|to|for|with|since|until|before|after|between|by|of)\b"
    rf"|{_OPENING}both,"
    r"|^\W*how (?:much|many)(?: (?:is|was) (?:it|that))? (?:a|per|each|every) \w+\W*$",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    rf"{_OPENING}(?:(?:and|but)\b\W*)*(?:(?:who|what|when|where|which|why|how)(?:['’]?s|['’]?re)?"
    r"|is|are|can|could|do|does|did|will|have (?:i|we)|has)\b",
    re.IGNORECASE,
)


def is_follow_up(message: str) -> bool:
    """Whether a message begins like the continuation of another one (“and”, “what about”, …)."""
    return _CONTINUATION.match(message) is not None


def continued(message: str) -> str:
    """Return a follow-up without the words that begin it like a continuation."""
    return _CONTINUATION.sub("", message, count=1).strip() or message


def points_back(message: str) -> bool:
    """Whether a few words have a pronoun for what an earlier message named: "can I cancel it later"."""
    return _POINTS.search(message) is not None and len(message.split()) <= FEW_WORDS


def ends_with_pronoun(message: str) -> bool:
    """Whether a few words are about what an earlier message named: "how do I cancel one"."""
    return _POINTS_LAST.search(message) is not None and len(message.split()) <= FEW_WORDS


def before(message: str, said: Sequence[str]) -> str:
    """Return the message after those that it points back to; `said` are the earlier ones, the newest first."""
    told: list[str] = []
    for one in said[:LONGEST_CHAIN]:
        told.insert(0, one)
        if not points_back(one):
            break
    return " ".join([*told, continued(message)])


def stands_alone(message: str) -> bool:
    """Whether a message can be read without the ones before it: it is no fragment, and refers to nothing else."""
    continues = _REFERS.search(message) or _FRAGMENT.match(message) or is_follow_up(message)
    return len(message.split()) >= COMPLETE_WORDS and not continues


def earlier(said: Sequence[str]) -> Iterator[str]:
    """Yield the earlier messages that one may continue, of all that were `said`, the newest first in both.

    An answer of yes or no continues nothing. A fragment continues the one before it.
    """
    told = [message for message in said if not (is_yes(message) or is_no(message))][:LONGEST_CHAIN]
    for place, message in enumerate(told):
        yield message
        if place + 1 >= MAX_EARLIER and stands_alone(message):
            return


def asks(message: str) -> bool:
    """Whether a message is a question by its first word or its end."""
    return "?" in message or _QUESTION.match(message) is not None
