"""Turn words of a customer into days. Nothing is guessed: words that stay unclear ("since payday") give None.

A date in digits has the day first. `dateparser` is not used: it reads no ranges, and takes "10/13" for a day of 2013.
"""

import re
from datetime import date, timedelta
from functools import lru_cache

from dateutil.relativedelta import SA, SU, relativedelta

from bankllm.assistant.understanding.calendar_units import DAY, UNITS, DayRange, lasting, one_unit, weekday_number
from bankllm.assistant.understanding.calendar_words import MONTH, MONTHS, WEEKDAY, YEAR, spelled
from bankllm.errors import UsageError

_RANGE = re.compile(
    r"between (?P<a>.+?) and (?P<b>.+)"
    r"|(?:from |since )?(?P<c>.+?) (?:(?:through |up )?to(?: and including)?|till?|until|through|thru) (?P<d>.+)"
    r"|(?P<e>[^-–]*[^-–\s]) ?[-–] ?(?P<f>[^-–]+)"
)
_NEIGHBOURS = re.compile(r"(?P<a>.+?)(?: and | or | & | ?/ ?)(?P<b>.+)")
_WEEK = re.compile(rf"(?P<a>{WEEKDAY}) ?(?:to|-|until|till?|through) ?(?P<b>{WEEKDAY}) (?P<week>.*week.*)")
_BEFORE = re.compile(r"^(?:during|over|within|for|in|on|of|at) ")
_NUMBER = r"\d{1,2}(?:st|nd|rd|th)?"


@lru_cache(8192)
def period(words: str, today: date) -> DayRange | None:
    """Return the days that the words mean on the day `today`; a period that lasts ends today.

    Raises `UsageError` if a day does not exist, if the period ends before it begins, and if it lies in the future.
    """
    text = _BEFORE.sub("", spelled(words))
    if re.fullmatch(r"last (?:week|year)", text) and f"the {text}" in words.lower():
        text = text.replace("last", "past")  # the last seven days; without the article it is the week before this one
    text = re.sub(rf"\b((?:{MONTH}|\d|eve|day)\w*)(?: of)? last year$", rf"\1 {today.year - 1}", text)
    text = re.sub(r"\bthis time last year\b", f"{MONTHS[today.month]} {today.year - 1}", text)
    found = _bracketed(text, today) or _edge(text, today)
    found = found or _range(text, today) or _open(text, today) or one_unit(text, today)
    if found and found == (today, today) and re.fullmatch(WEEKDAY, text):
        found = lasting(today - timedelta(7), DAY)  # of today people say "today"
    if found and (found.date_from or found.date_to) > today:
        raise UsageError(f"“{words}” begins on {found.date_from or found.date_to}. Expected a period in the past.")
    if found and found.date_from and found.date_from > found.date_to:
        raise UsageError(
            f"“{words}” would be {found.date_from} to {found.date_to}. Expected an end after the beginning."
        )
    return found and DayRange(found.date_from, min(found.date_to, today))


def readable(words: str, today: date) -> bool:
    """Whether `period` or `day` understands the words, or refuses them with an error."""
    try:
        return (period(words, today) or day(words, today, future=False)) is not None
    except UsageError:
        return True


@lru_cache(8192)
def coming(words: str, today: date) -> DayRange | None:
    """Return the days from today on that the words mean; without a year, the next ones.

    Raises `UsageError` if they are over, and if they lie more than a year ahead.
    """
    text = _BEFORE.sub("", spelled(words))
    if ahead := re.fullmatch(r"(?:the )?(?:next|coming) (\d{1,3}) (day|week|month)s?", text):
        return DayRange(today, today + UNITS[ahead[2]] * int(ahead[1]))
    if text == "this week" and today.weekday() >= SA.weekday:  # who asks at its end means the days ahead
        return DayRange(today, today + relativedelta(days=2, weekday=SU))
    found = one_unit(text, today, future=True) or _range(text, today) or _open(text, today, future=True)
    if found and found.date_to < today and not re.search(YEAR, text):
        first, last = (one and one + relativedelta(years=1) for one in found)
        found = DayRange(first, last or found.date_to)
    if found and (found.date_from or today) > found.date_to:
        return None  # "from 5 December" has no end
    if found and not today <= found.date_to <= today + relativedelta(years=1):
        raise UsageError(f"“{words}” ends on {found.date_to}. Expected a period in the coming year.")
    return found and DayRange(max(found.date_from or today, today), found.date_to)


@lru_cache(8192)
def day(words: str, today: date, *, future: bool) -> date | None:
    """Return one day: the next such day for a transfer (`future`), else the latest one.

    Raises `UsageError` if the day does not exist.
    """
    text = spelled(words).replace("this time last year", "1 year ago")
    text = re.sub(r"^(?:(?:on|by|for|at|as of|midnight) )+", "", text)
    if ago := re.fullmatch(r"(\d{1,3}) (day|week|month|year)s? ago", text):
        back: date = today - UNITS[ago[2]] * int(ago[1])
        return back
    if later := re.fullmatch(r"in (\d{1,3}|an?) (day|week|month|year)s?(?: time)?", text):
        return today + UNITS[later[2]] * (int(later[1]) if later[1].isdecimal() else 1) if future else None
    found = one_unit(text, today, future)
    return found.date_from if found and found.date_from == found.date_to else None


def _bracketed(text: str, today: date) -> DayRange | None:
    """Read a period that a bracket makes precise: `2025 (from august on)`, `mid august (about 8th to 14th)`."""
    match = re.fullmatch(r"(.+?) ?\((?:(?:about|around|roughly|say|i\.?e\.?) )?(.+)\)", text)
    whole = one_unit(match[1], today) if match else None
    if not match or not whole or not whole.date_from:
        return None
    if match[2] in UNITS:
        return whole  # may (the whole month)
    first, last = whole.date_from, whole.date_to
    inner, named = match[2], re.search(YEAR, match[2])
    if edge := re.fullmatch(r"(from|since|to|until|till?|up to) (.+?)(?: on(?:wards?)?)?", inner):
        found = one_unit(edge[2] if named else f"{edge[2]} {first.year}", today)
        since = edge[1] in ("from", "since")
        found = found and (DayRange(found.date_from, last) if since else DayRange(first, found.date_to))
    else:
        month = "" if re.search(rf"\b(?:{MONTH})\b", inner) else f" {MONTHS[first.month]}"
        stated = f"{inner}{month}" if named else f"{inner}{month} {first.year}"
        found = _range(stated, today) or one_unit(stated, today)
    inside = found and found.date_from and first + relativedelta(day=1) <= found.date_from <= found.date_to
    return found if inside and found and found.date_to <= last + relativedelta(day=31) else None


def _edge(text: str, today: date) -> DayRange | None:
    """Read the first or last seven days of a month: payments of "the end of October" are not all on its last day."""
    match = re.fullmatch(rf"(start|beginning|end) of ((?:this |last )?month|(?:{MONTH})(?: {YEAR})?)", text)
    month = one_unit(match[2], today) if match else None
    if not match or not month or not month.date_from:
        return None
    return lasting(month.date_to - timedelta(6) if match[1] == "end" else month.date_from, timedelta(7))


def _range(text: str, today: date) -> DayRange | None:
    if match := _WEEK.fullmatch(text):
        week = one_unit(match["week"], today)
        first, last = (week and week.date_from and week.date_from + weekday_number(match[day]) * DAY for day in "ab")
        return DayRange(first, last) if first and last else None
    match = _RANGE.fullmatch(text)
    neighbours = None if match else _NEIGHBOURS.fullmatch(text)
    if match and not text.startswith("week "):
        begin, end = (part for part in match.groups() if part)
    elif neighbours:
        begin, end = neighbours.groups()
    else:
        return None
    to = lasting(today, DAY) if end in ("now", "date") else one_unit(end, today)
    if to is None:
        return None
    if length := re.fullmatch(r"(?:last )?(\d{1,3}) (day|week|month|year)s?", begin):
        return DayRange(to.date_to - UNITS[length[2]] * int(length[1]) + DAY, to.date_to)
    same_month = re.fullmatch(_NUMBER, begin)
    if same_month and (month := re.search(rf"(?:{MONTH})(?:,? {YEAR})?$|of (?:this|last) month$", end)):
        begin = f"{begin} {month[0]}"
    elif (year := re.search(rf" {YEAR}$", end)) and not re.search(rf"{YEAR}$", begin):
        begin += year[0]
    since = one_unit(begin, today)
    if since is None or since.date_from is None:
        return None
    start = since.date_from
    if same_month and start > to.date_to and re.fullmatch(_NUMBER, end):
        start = to.date_to + relativedelta(day=start.day)  # the 16th to the 30th: of the same month
    adjacent = since.date_to + DAY == to.date_from and ("/" in text or start == since.date_to)
    if neighbours and not adjacent:
        return None
    if start > to.date_to and not same_month and not re.search(YEAR, begin):
        start -= timedelta(7) if re.match(WEEKDAY, begin) else relativedelta(years=1)
    return DayRange(start, to.date_to)


def _open(text: str, today: date, future: bool = False) -> DayRange | None:
    # since the clocks went back (25 Oct), since the summer (1 sept say), since the summer, say july
    text = re.sub(r"^since .+? ?\((?:(?:on|from|about|around|say) )?([^()]+?)(?:,? say)?\)$", r"since \1", text)
    text = re.sub(r"^since .+?,? (?:(?:let'?s )?say|so|i\.?e\.?) (.+)$", r"since \1", text)
    match = re.fullmatch(r"(since|after|before|until|till?|up to|from) (.+?)(?: onwards?)?|(.+) onwards?", text)
    if match is None:
        return None
    inner = one_unit(match[2] or match[3], today, future)
    event = re.fullmatch(r"\D+(?: (?:in|on)|,|(?= \d)) (.+)", match[2] or "")
    named = event and re.search(rf"\b(?:{MONTH}|{WEEKDAY})\b", event[0][: event.start(1)])
    happened = inner is None and event and not named and match[1] != "from"
    if event and happened:  # since I moved in May
        inner = one_unit(event[1], today)
    if inner is None or inner.date_from is None:
        return None
    if match[1] == "before":
        return DayRange(None, inner.date_from - DAY)
    if match[1] in ("until", "till", "til", "up to"):
        return DayRange(None, inner.date_to)
    return DayRange(inner.date_to + DAY if match[1] == "after" and not happened else inner.date_from, today)
