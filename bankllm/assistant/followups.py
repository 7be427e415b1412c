"""Rules for follow-up messages: whether a message continues another one, and how many transactions it asks for."""

import re

MAX_TRANSACTIONS = 20
"""Maximum number of transactions per reply."""
COMPLETE_WORDS = 4
"""Words of the shortest message that is read without the ones before it."""
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

_OPENING = r"^\W*(?:(?:oh|ok(?:ay)?|right|hm+|ah|so|thanks)\b\W*)*"
_CONTINUATION = re.compile(rf"{_OPENING}(and|also|what about|how about|same|then|plus)\b", re.IGNORECASE)
_REFERS = re.compile(
    r"\b(?:it|its|that|this|them|those|these|they|their|he|she|his|her|him|ones?|same|there|others?|another|instead|again"
    r"|rather|sorry|actually|no|not|mean|meant|make|only|just|already|more|rest)\b",
    re.IGNORECASE,
)
"""Words that refer to an earlier message, or correct it."""
_FRAGMENT = re.compile(
    rf"{_OPENING}(?:from|at|in|on|to|for|with|since|until|before|after|between|by|of)\b", re.IGNORECASE
)
_QUESTION = re.compile(r"^\W*(?:who|what|when|where|which|why|how|is|are|can|could|do|does|did|will)\b", re.IGNORECASE)
_NUMBER = rf"(?P<count>\d{{1,3}}|{'|'.join(WORDS)})"
_LATEST = r"(?:last|latest|most recent|recent|past|previous|newest)"
_TRANSACTIONS = r"(?:transactions?|payments?|purchases?|bookings?|entries|movements?)"
_COUNT_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (rf"\b{_LATEST}\s+{_NUMBER}\b", rf"\b{_NUMBER}\s+(?:{_LATEST}\s+)?{_TRANSACTIONS}\b")
)
_FIRST = rf"(?:{_LATEST}|first|earliest|oldest|largest|biggest|highest|most expensive|dearest|smallest|cheapest|lowest)"
_SINGLE = re.compile(
    rf"\b{_FIRST}(?:\s+single)?\s+(?:transaction|payment|purchase|booking|movement)\b|\bwhen did \w+ (?:last|first)\b",
    re.IGNORECASE,
)


def is_follow_up(message: str) -> bool:
    """Whether a message begins like the continuation of another one (“and”, “what about”, …)."""
    return _CONTINUATION.match(message) is not None


def stands_alone(message: str) -> bool:
    """Whether a message can be read without the ones before it: it is no fragment, and refers to nothing else."""
    refers = _REFERS.search(message) or _FRAGMENT.match(message) or is_follow_up(message)
    return len(message.split()) >= COMPLETE_WORDS and not refers


def asks(message: str) -> bool:
    """Whether a message is a question by its first word or its end."""
    return "?" in message or _QUESTION.match(message) is not None


def wanted_count(message: str, default: int) -> int:
    """How many transactions a message asks for, 1 to `MAX_TRANSACTIONS`; `default` if it does not say."""
    for pattern in _COUNT_PATTERNS:
        if match := pattern.search(message):
            word = match["count"].lower()
            return min(max(int(word) if word.isdigit() else WORDS.index(word) + 1, 1), MAX_TRANSACTIONS)
    return default


def wants_one(message: str) -> bool:
    """Whether a message asks for a single transaction: the last payment, the largest purchase."""
    return _SINGLE.search(message) is not None
