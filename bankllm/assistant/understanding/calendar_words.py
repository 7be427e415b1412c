"""Spell words for days in one way: lower case, numbers in digits, months by name, the day before the month."""

import calendar
import re
from collections.abc import Callable
from datetime import date
from functools import lru_cache

from rapidfuzz.distance import OSA
from text_to_num import alpha2digit

from bankllm.assistant.understanding import WORDS

YEAR = r"(?:19|20)\d\d"
MONTHS = [name.lower() for name in calendar.month_name]
MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS[1:]) + "|sept"
WEEKDAY = "mon(?:day)?|tue(?:s|sday)?|wed(?:s|nesday)?|thu(?:r|rs|rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?"
_UNITS = ("week", "month", "year", "weekend")
_NAMES = (*MONTHS[1:], "sept", *(name.lower() for name in calendar.day_name), *_UNITS[:3])
_FILLER = re.compile(
    r"\b(?:the|weekend of(?= \d+\w* and )|calendar|whole(?: of)?|entire|like|month of(?= [a-z])) "
    r"|^(?:all(?: of)?|throughout|so far) | so far$|,? inclusive$| (?:started|starts|began|begins)$"
    r"|(?<=\w) (?:early |late )?(?:morning|afternoon|evening|night)$"
)
_NUMBER, _LINK = r"(\d{1,2})(?:st|nd|rd|th)?", r"[-–]|to|till?|until|thru|through|and"
_REWRITTEN: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile(pattern), spelled)
    for pattern, spelled in (
        (r"^((?:for|in|during) )?year (?=20\d\d$)|\b(20) (?=\d\d$)", r"\1\2"),
        (
            r"\b(20\d\d)-(\d\d)\b(?!-)|(?<![\d/.-])(\d{1,2})[/.-](20\d\d)\b",
            lambda match: f"{_month(match[2] or match[3])} {match[1] or match[4]}",
        ),
        (r"\b(20\d\d)-(\d\d)-(\d\d)\b", r"\3/\2/\1"),
        (r"\b(\d{1,2})-(\d{1,2})-((?:20)?\d\d)\b", r"\1/\2/\3"),
        (
            r"(?<!year )\b(\d{1,2})(?:/(\d{1,2})|\.(\d{1,2})(?=\.\d))(?:[/.](?:20)?(\d\d))?(?![\d/])",
            lambda match: f"{match[1]} {_month(match[2] or match[3])}" + (f" 20{match[4]}" if match[4] else ""),
        ),
        (rf"(?<=\d )({MONTH}),? '?(2\d)\b|\b({MONTH}) '(2\d)\b", r"\1\3 20\2\4"),
        (rf"\b({MONTH}) {_NUMBER} ?({_LINK}) ?{_NUMBER}$", r"\2 \1 \3 \4 \1"),
        (rf"\b({MONTH}) {_NUMBER}\b", r"\2 \1"),
    )
]
_SAME_MONTH = re.compile(
    rf"(?P<month>\b(?:{MONTH})) '?(?P<first>\d\d) (?:to|till?|until|and|through|-|–) (?P=month) '?(?P<last>\d\d)(?!\w)",
    re.IGNORECASE,
)
_SPELLINGS = [(re.compile(rf"\b(?:{spelled})\b"), word) for word, spelled in WORDS["spellings"].items()]


@lru_cache(8192)
def spelled(words: str) -> str:
    """Return the words in the one spelling that `periods` reads, without words that change nothing."""
    text = " ".join(words.lower().replace("’", "'").split()).strip(" .,!?")
    for pattern, word in _SPELLINGS:
        text = pattern.sub(word, text)
    text = re.sub(r"^an? (?=\w+ ago)", "1 ", re.sub(rf"((?:^|\b)(?:{MONTH})) ones?$", r"\1", text))
    text = _FILLER.sub("", alpha2digit(text, "en", threshold=0) if text.isascii() else text)
    for pattern, replacement in _REWRITTEN:
        text = pattern.sub(replacement, text)
    text = re.sub(r"[^\W\d_]{4,}", lambda match: corrected(match[0]), text)
    unit = r"(?<=\bthis |\blast |\bpast )\w{4,6}$|(?<=\bprevious )\w{4,6}$"  # last moth, this weeek
    return re.sub(unit, lambda match: corrected(match[0], _UNITS, 0), text)


def month_first(words: str) -> str:
    """Return the words with the dates in digits of a customer who writes the month before the day, day first."""
    return re.sub(r"(?<![\d/])(\d{1,2})/(\d{1,2})(?=(?:/(?:20)?\d\d)?(?![\d/]))", r"\2/\1", words)


def with_years(words: str, today: date) -> str:
    """Return the words with the years of two equal months: "march 25 to march 26" is no two days; April is a tax year.

    The second number must be this year's, and the first one that of the year before; the month is not this one.
    """
    found = _SAME_MONTH.search(words)
    if not found or not int(found["first"]) + 1 == int(found["last"]) == today.year % 100:
        return words
    if MONTHS[today.month].startswith(found["month"].lower()):
        return words  # two days of this month
    month, year = found["month"], today.year
    if month.lower().startswith("apr"):
        return f"6 {month} {year - 1} to 5 {month} {year}"
    return f"{month} {year - 1} to {month} {year}"


@lru_cache(8192)
def corrected(word: str, names: tuple[str, ...] = _NAMES, least: int = 6) -> str:
    """Correct the name of a month or weekday with two letters exchanged, or with one other letter.

    A word with another letter has at least so many letters.
    """
    letters, known = sorted(word), [name for name in names if word and name[0] == word[0]]
    close = (one for one in known if sorted(one) == letters or (len(word) >= least and OSA.distance(one, word) == 1))
    return word if word in names else next(close, word)


def _month(number: str) -> str:
    return MONTHS[int(number)] if 0 < int(number) < 13 else f"month {int(number)}"
