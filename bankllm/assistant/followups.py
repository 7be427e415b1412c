"""What a message takes over from the one before it, and how many of something it asks for.

is_follow_up("and the last three transactions?")   # True
wanted_count("and the last three transactions?")   # 3
"""

import re

MOST = 20
"""Transactions in one reply."""
WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

_FOLLOWS_ON = re.compile(r"^\W*(and|also|what about|how about|same|then|plus)\b", re.IGNORECASE)
_NUMBER = rf"(?P<count>\d{{1,3}}|{'|'.join(WORDS)})"
_LATEST = r"(?:last|latest|most recent|recent|past|previous|newest)"
_BOOKED = r"(?:transactions?|payments?|purchases?|bookings?|entries|movements?)"
_COUNTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (rf"\b{_LATEST}\s+{_NUMBER}\b", rf"\b{_NUMBER}\s+(?:{_LATEST}\s+)?{_BOOKED}\b")
)
_SINGLE = re.compile(rf"\b{_LATEST}\s+(?:transaction|payment|purchase|booking|movement)\b", re.IGNORECASE)


def is_follow_up(message: str) -> bool:
    """Whether a message is worded as the continuation of another one."""
    return _FOLLOWS_ON.match(message) is not None


def wanted_count(message: str, otherwise: int) -> int:
    """How many transactions a message asks for, 1 to `MOST`; `otherwise` where it does not say."""
    for pattern in _COUNTS:
        if found := pattern.search(message):
            word = found["count"].lower()
            return min(max(int(word) if word.isdigit() else WORDS.index(word) + 1, 1), MOST)
    return 1 if _SINGLE.search(message) else otherwise
