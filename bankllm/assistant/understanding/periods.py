"""Turn words of a customer into days. Nothing is guessed: words that stay unclear ("since payday") give None.

A date in digits has the day first. Seasons are meteorological (northern hemisphere), tax years British. `dateparser`
is not used: it reads no ranges, and takes "10/13" for a day of 2013.
"""

import calendar
import re
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

from dateutil.easter import easter
from dateutil.relativedelta import relativedelta
from rapidfuzz.distance import OSA
from text_to_num import alpha2digit

from bankllm.assistant.understanding import WORDS
from bankllm.errors import UsageError

DAY = timedelta(1)
YEAR = r"(?:19|20)\d\d"
MONTHS = [name.lower() for name in calendar.month_name]
MONTH = "|".join(f"{name}|{name[:3]}" for name in MONTHS[1:]) + "|sept"
WEEKDAY = "mon(?:day)?|tue(?:s|sday)?|wed(?:s|nesday)?|thu(?:r|rs|rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?"
UNITS = {"day": 1, "week": 7, "weekend": 7, "month": 1, "quarter": 3, "year": 12, "tax year": 12}
"""Unit of the calendar → days, or from `month` on months."""
DAYS_AGO = {"tomorrow": -1, "today": 0, "yesterday": 1}
_NAMES = [*MONTHS[1:], "sept", *(name.lower() for name in calendar.day_name), "week", "month", "year"]
_RANGE = re.compile(
    r"between (?P<a>.+?) and (?P<b>.+)"
    r"|(?:from |since )?(?P<c>.+?) (?:(?:through |up )?to(?: and including)?|till?|until|through|thru) (?P<d>.+)"
    r"|(?P<e>[^-–]*[^-–\s]) ?[-–] ?(?P<f>[^-–]+)"
)
_NEIGHBOURS = re.compile(r"(?P<a>.+?)(?: and | or | & | ?/ ?)(?P<b>.+)")
_WEEK = re.compile(rf"(?P<a>{WEEKDAY}) ?(?:to|-|until|till?|through) ?(?P<b>{WEEKDAY}) (?P<week>.*week.*)")
_HOLIDAYS = [(re.compile(pattern), days) for pattern, days in WORDS["holidays"].items()]
_PARTS = [(re.compile(pattern), part) for pattern, part in WORDS["parts"].items()]
_HAS_NAME = re.compile("|".join((*WORDS["holidays"], *WORDS["parts"], "easter(?: sunday)?")))
_FILLER = re.compile(
    r"\b(?:the|weekend of(?= \d+\w* and )|calendar|whole(?: of)?|entire|like|month of(?= [a-z])) "
    r"|^(?:all(?: of)?|throughout|so far) | so far$|,? inclusive$"
    r"|(?<=\w) (?:early |late )?(?:morning|afternoon|evening|night)$"
)
_SPELLINGS = [(re.compile(rf"\b(?:{spelled})\b"), word) for word, spelled in WORDS["spellings"].items()]
_UNIT = re.compile(
    r"(?:(this|current|last|previous|past|next|most recent) )?(?:(\d{1,3}) )?"
    rf"({'|'.join(UNITS)})s?( ago| before last)?"
)


class DayRange(NamedTuple):
    date_from: date | None
    """First day; None for a period without a beginning ("until May")."""
    date_to: date
    """Last day, included."""


@lru_cache(8192)
def period(words: str, today: date) -> DayRange | None:
    """Return the days that the words mean on the day `today`; a period that lasts ends today.

    Raises `UsageError` if a day does not exist, if the period ends before it begins, and if it lies in the future.
    """
    text = re.sub(r"^(?:during|over|within|for|in|on|of|at) ", "", _plain(words))
    if re.fullmatch(r"(?:the )?last week", text) and "the last week" in words.lower():
        text = "past week"  # the last seven days; without the article it is the week before this one
    text = re.sub(rf"\b((?:{MONTH}|\d|eve|day)\w*)(?: of)? last year$", rf"\1 {today.year - 1}", text)
    text = re.sub(r"\bthis time last year\b", f"{MONTHS[today.month]} {today.year - 1}", text)
    found = _bracketed(text, today) or _edge(text, today)
    found = found or _range(text, today) or _open(text, today) or _days(text, today)
    if found and found == (today, today) and re.fullmatch(WEEKDAY, text):
        found = DayRange(today - timedelta(7), today - timedelta(7))  # of today people say "today"
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
    text = re.sub(r"^(?:during|over|within|for|in|on|of|at) ", "", _plain(words))
    if ahead := re.fullmatch(r"(?:the )?(?:next|coming) (\d{1,3}) (day|week|month)s?", text):
        return DayRange(today, today + relativedelta(**{f"{ahead[2]}s": int(ahead[1])}))
    found = _days(text, today, future=True) or _range(text, today) or _open(text, today, future=True)
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
    text = re.sub(
        r"^(?:(?:on|by|for|at|as of|midnight) )+", "", _plain(words).replace("this time last year", "1 year ago")
    )
    if ago := re.fullmatch(r"(\d{1,3}) (day|week|month|year)s? ago", text):
        back: date = today - relativedelta(**{f"{ago[2]}s": int(ago[1])})
        return back
    if later := re.fullmatch(r"in (\d{1,3}|an?) (day|week|month|year)s?(?: time)?", text):
        number = int(later[1]) if later[1].isdecimal() else 1
        return today + relativedelta(**{f"{later[2]}s": number}) if future else None
    found = _days(text, today, future)
    return found.date_from if found and found.date_from == found.date_to else None


@lru_cache(8192)
def _plain(words: str) -> str:
    """Lower case, numbers in digits, one way to write a date, without words that change nothing."""
    text = " ".join(words.lower().replace("’", "'").split()).strip(" .,!?")
    for spelled, word in _SPELLINGS:
        text = spelled.sub(word, text)
    text = re.sub(r"^an? (?=\w+ ago)", "1 ", re.sub(rf"((?:^|\b)(?:{MONTH})) ones?$", r"\1", text))
    text = alpha2digit(text, "en", threshold=0) if text.isascii() else text
    text = re.sub(r"^((?:for|in|during) )?year (?=20\d\d$)|\b(20) (?=\d\d$)", r"\1\2", _FILLER.sub("", text))
    text = re.sub(r"\b(20\d\d)-(\d\d)\b(?!-)|(?<![\d/.-])(\d{1,2})[/.-](20\d\d)\b", _month_spelled, text)
    text = re.sub(r"\b(20\d\d)-(\d\d)-(\d\d)\b", r"\3/\2/\1", text)
    text = re.sub(r"\b(\d{1,2})-(\d{1,2})-((?:20)?\d\d)\b", r"\1/\2/\3", text)
    text = re.sub(
        r"(?<!year )\b(\d{1,2})(?:/(\d{1,2})|\.(\d{1,2})(?=\.\d))(?:[/.](?:20)?(\d\d))?(?![\d/])", _spelled, text
    )
    text = re.sub(rf"(?<=\d )({MONTH}),? '?(2\d)\b|\b({MONTH}) '(2\d)\b", r"\1\3 20\2\4", text)
    link = r"[-–]|to|till?|until|thru|through|and"
    text = re.sub(
        rf"\b({MONTH}) (\d{{1,2}})(?:st|nd|rd|th)? ?({link}) ?(\d{{1,2}})(?:st|nd|rd|th)?$", r"\2 \1 \3 \4 \1", text
    )
    text = re.sub(rf"\b({MONTH}) (\d{{1,2}})(?:st|nd|rd|th)?\b", r"\2 \1", text)
    text = re.sub(r"[^\W\d_]{4,}", lambda match: corrected(match[0]), text)
    return re.sub(r"\b(this|last|past|previous) (\w{4,6})$", _unit_corrected, text)


def _unit_corrected(match: re.Match[str]) -> str:
    """Correct the unit of a period in which one letter is wrong: "last moth", "this weeek"."""
    close = (unit for unit in ("week", "month", "year", "weekend") if OSA.distance(unit, match[2]) == 1)
    return f"{match[1]} {next((unit for unit in close if unit[0] == match[2][0]), match[2])}"


@lru_cache(8192)
def corrected(word: str) -> str:
    """Correct the name of a month or weekday with two letters exchanged, or one wrong letter in a long name."""
    if not word or word in _NAMES:
        return word
    close = (
        name
        for name in _NAMES
        if name[0] == word[0] and (sorted(name) == sorted(word) or (len(word) > 5 and OSA.distance(name, word) == 1))
    )
    return next(close, word)


def _spelled(match: re.Match[str]) -> str:
    number = int(match[2] or match[3])
    month = MONTHS[number] if 0 < number < 13 else f"month {number}"
    return f"{match[1]} {month}" + (f" 20{match[4]}" if match[4] else "")


def _month_spelled(match: re.Match[str]) -> str:
    number = int(match[2] or match[3])
    return f"{MONTHS[number] if 0 < number < 13 else f'month {number}'} {match[1] or match[4]}"


def _bracketed(text: str, today: date) -> DayRange | None:
    """Read a period that a bracket makes precise: `2025 (from august on)`, `mid august (about 8th to 14th)`."""
    match = re.fullmatch(r"(.+?) ?\((?:(?:about|around|roughly|say|i\.?e\.?) )?(.+)\)", text)
    whole = _days(match[1], today) if match else None
    if not match or not whole or not whole.date_from:
        return None
    if match[2] in UNITS:
        return whole  # may (the whole month)
    first, last = whole.date_from, whole.date_to
    inner, named = match[2], re.search(YEAR, match[2])
    if edge := re.fullmatch(r"(from|since|to|until|till?|up to) (.+?)(?: on(?:wards?)?)?", inner):
        found = _days(edge[2] if named else f"{edge[2]} {first.year}", today)
        found = found and DayRange(
            *((found.date_from, last) if edge[1] in ("from", "since") else (first, found.date_to))
        )
    else:
        month = "" if re.search(rf"\b(?:{MONTH})\b", inner) else f" {MONTHS[first.month]}"
        stated = f"{inner}{month}" if named else f"{inner}{month} {first.year}"
        found = _range(stated, today) or _days(stated, today)
    inside = found and found.date_from and first + relativedelta(day=1) <= found.date_from <= found.date_to
    return found if inside and found and found.date_to <= last + relativedelta(day=31) else None


def _edge(text: str, today: date) -> DayRange | None:
    """Read the first or last seven days of a month: payments of "the end of October" are not all on its last day."""
    match = re.fullmatch(rf"(start|beginning|end) of ((?:this |last )?month|(?:{MONTH})(?: {YEAR})?)", text)
    month = _days(match[2], today) if match else None
    if not match or not month or not month.date_from:
        return None
    if match[1] == "end":
        return DayRange(month.date_to - timedelta(6), month.date_to)
    return DayRange(month.date_from, month.date_from + timedelta(6))


def month_first(words: str) -> str:
    """Return the words with the dates in digits of a customer who writes the month before the day, day first."""
    return re.sub(r"(?<![\d/])(\d{1,2})/(\d{1,2})(?=(?:/(?:20)?\d\d)?(?![\d/]))", r"\2/\1", words)


def _range(text: str, today: date) -> DayRange | None:
    if match := _WEEK.fullmatch(text):
        week = _unit(match["week"], today)
        first, last = (week and week.date_from and week.date_from + _weekday(match[day]) * DAY for day in "ab")
        return DayRange(first, last) if first and last else None
    match = _RANGE.fullmatch(text)
    neighbours = None if match else _NEIGHBOURS.fullmatch(text)
    if match and not text.startswith("week "):
        begin, end = (match[a] or match[c] or match[e] for a, c, e in ("ace", "bdf"))
    elif neighbours:
        begin, end = neighbours["a"], neighbours["b"]
    else:
        return None
    to = DayRange(today, today) if end in ("now", "date") else _days(end, today)
    if to and (length := re.fullmatch(r"(?:last )?(\d{1,3}) (day|week|month|year)s?", begin)):
        return DayRange(to.date_to - relativedelta(**{f"{length[2]}s": int(length[1])}) + DAY, to.date_to)
    if to is None:
        return None
    same_month = re.fullmatch(r"\d{1,2}(?:st|nd|rd|th)?", begin)
    if same_month and (month := re.search(rf"(?:{MONTH})(?:,? {YEAR})?$|of (?:this|last) month$", end)):
        begin = f"{begin} {month[0]}"
    elif (year := re.search(rf" {YEAR}$", end)) and not re.search(rf"{YEAR}$", begin):
        begin += year[0]
    since = _days(begin, today)
    if since is None or since.date_from is None:
        return None
    start = since.date_from
    if same_month and start > to.date_to and re.fullmatch(r"\d{1,2}(?:st|nd|rd|th)?", end):
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
    inner = _days(re.sub(r" (?:started|starts|began|begins)$", "", match[2] or match[3]), today, future)
    event = re.fullmatch(r"\D+(?: (?:in|on)|,|(?= \d)) (.+)", match[2] or "")
    named = event and re.search(rf"\b(?:{MONTH}|{WEEKDAY})\b", event[0][: event.start(1)])
    happened = inner is None and event and not named and match[1] != "from"
    if event and happened:  # since I moved in May
        inner = _days(event[1], today)
    if inner is None or inner.date_from is None:
        return None
    if match[1] == "before":
        return DayRange(None, inner.date_from - DAY)
    if match[1] in ("until", "till", "til", "up to"):
        return DayRange(None, inner.date_to)
    return DayRange(inner.date_to + DAY if match[1] == "after" and not happened else inner.date_from, today)


def _days(text: str, today: date, future: bool = False) -> DayRange | None:
    """Read one unit of the calendar, or one day."""
    if match := re.fullmatch(r"(start|beginning|end|last) of (.+)|(month|year) end", text):
        inner = _days(re.sub(r" (?:started|starts|began|begins)$", "", match[2] or match[3]), today, future)
        edge = inner and (inner.date_from if match[1] in ("start", "beginning") else inner.date_to)
        return DayRange(edge, edge) if edge else None
    if match := re.fullmatch(r"(day|week|weekend|month|quarter|year) (before|after) (.+)", text):
        near, unit = _days(match[3], today), UNITS[match[1]]
        length = relativedelta(**{"months" if match[1] in ("month", "quarter", "year") else "days": unit})
        if near and near.date_from:
            start = near.date_from - length if match[2] == "before" else near.date_to + DAY
            if match[1] == "weekend":
                start, length = start + timedelta((5 - start.weekday()) % 7), relativedelta(days=2)
            return DayRange(start, start + length - DAY)
    if (match := re.fullmatch(r"(early|mid|late)[ -](?:in )?(.+)", text)) and (month := _days(match[2], today)):
        if month.date_from and month.date_from.day == 1 and month.date_to < month.date_from + timedelta(31):
            first, last = {"early": (1, 10), "mid": (11, 20), "late": (21, 31)}[match[1]]
            return DayRange(*[month.date_from + relativedelta(day=number) for number in (first, last)])
        return None
    if match := re.fullmatch(r"(.+?)(?:,| of)? (last|this) year", text):
        return _days(f"{match[1]} {today.year - (match[2] == 'last')}", today, future)
    if (match := re.fullmatch(r"(1st|2nd) half of (.+)", text)) and (month := _days(match[2], today)):
        middle = month.date_from and month.date_from + timedelta(14)
        if middle and month.date_from and month.date_from + timedelta(31) > month.date_to > middle:
            return DayRange(month.date_from, middle) if match[1] == "1st" else DayRange(middle + DAY, month.date_to)
    if match := re.fullmatch(r"(1st|2nd|3rd|4th|last)(?: (\d{1,2}))? (day|week)s? of (.+)", text):
        whole, length = _days(match[4], today), timedelta(int(match[2] or 1) * UNITS[match[3]])
        if whole and whole.date_from and match[1] == "last":
            return DayRange(whole.date_to - length + DAY, whole.date_to)
        start = whole and whole.date_from and whole.date_from + length * (int(match[1][0]) - 1)
        return DayRange(start, start + length - DAY) if start else None
    if match := re.fullmatch(r"week(end)? (?:of|commencing|beginning|(ending)) (.+)|week (\d{1,2})", text):
        named = match[3] and _days(match[3], today, future)
        if named and match[2]:
            return DayRange(named.date_to - timedelta(6), named.date_to)
        monday = named and named.date_from and named.date_from - timedelta(named.date_from.weekday())
        if match[4] and 0 < int(match[4]) < 54:
            monday = date(today.year, 1, 4) + timedelta(7 * int(match[4]) - 7 - date(today.year, 1, 4).weekday())
        return DayRange(monday + timedelta(5 if match[1] else 0), monday + timedelta(6)) if monday else None
    if text in DAYS_AGO:
        return DayRange(*[today - timedelta(DAYS_AGO[text])] * 2)
    if match := re.fullmatch(rf"(?:(this|last|next) )?({WEEKDAY})", text):
        ahead = (_weekday(match[2]) - today.weekday()) % 7
        if future or match[1] == "next":
            return DayRange(*[today + timedelta(ahead or 7)] * 2)
        return DayRange(*[today + timedelta(ahead - 7 if ahead or match[1] == "last" else 0)] * 2)
    return _unit(text, today) or _named(text, today, future) or _date(text, today, future)


def _weekday(name: str) -> int:
    return ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].index(name[:3])


def _unit(text: str, today: date) -> DayRange | None:
    """Read `this month`, `last week`, `past 3 months`, `2 weeks ago`, `week before last`."""
    match = _UNIT.fullmatch(text)
    if match is None or (match[4] == " ago" and not match[2]):
        return None
    which, count, unit = match[1], int(match[2] or 1), match[3]
    length = relativedelta(**{"days" if unit in ("day", "week", "weekend") else "months": UNITS[unit]})
    if match[4] != " ago" and unit != "weekend" and (match[2] or which == "past"):
        return DayRange(today - length * count + DAY, today)
    start = today - timedelta(today.weekday())
    if unit == "weekend":
        start += timedelta(5 if today.weekday() > 4 or which else -2)
    elif unit == "day":
        start = today
    elif unit == "tax year":
        start = date(today.year - (today < date(today.year, 4, 6)), 4, 6)
    elif unit in ("month", "quarter", "year"):
        start = date(today.year, (today.month - 1) // UNITS[unit] * UNITS[unit] + 1, 1)
    back = (
        count
        if match[4] == " ago"
        else {"next": -1, "this": 0, "current": 0, None: 0}.get(which, 1) + 2 * bool(match[4])
    )
    start -= length * back
    return DayRange(start, start + DAY if unit == "weekend" else start + length - DAY)


def _named(text: str, today: date, future: bool) -> DayRange | None:
    """Read months, years, quarters, halves, seasons, tax years and holidays, with or without a year."""
    if match := re.fullmatch(r"tax year (?:20)?(\d\d) ?[/-] ?(?:20)?(\d\d)", text):
        start = date(2000 + int(match[1]), 4, 6)
        return (
            DayRange(start, start + relativedelta(years=1, days=-1))
            if (start.year + 1) % 100 == int(match[2])
            else None
        )
    which, name, stated = re.fullmatch(rf"(this |last |past )?(.*?)(?:(?:^| of |,? )({YEAR})| of year)?", text).groups()  # type: ignore[union-attr]
    if not _HAS_NAME.fullmatch(name) or not (name or stated):
        return None
    year = int(stated or today.year)
    start, length = _first_day(name, year)
    if not stated and future and start + length <= today:
        start, _ = _first_day(name, year + 1)
    elif not (stated or future) and (start > today or (which == "last " and start + length > today)):
        start, _ = _first_day(name, year - 1)
    return DayRange(start, start + length - DAY)


def _first_day(name: str, year: int) -> tuple[date, relativedelta]:
    """Return the first day of a holiday or of a part of the year, and its length."""
    if name in ("easter", "easter sunday"):
        return easter(year), relativedelta(days=1)
    if holiday := next((days for pattern, days in _HOLIDAYS if pattern.fullmatch(name)), None):
        month, first, *weekday = holiday
        later = relativedelta(weekday=weekday[0]) if weekday else relativedelta()
        return date(year, month, first) + later, relativedelta(days=1)
    month, months = next(part for pattern, part in _PARTS if pattern.fullmatch(name))
    return date(year, month, 1), relativedelta(months=months)


def _date(text: str, today: date, future: bool) -> DayRange | None:
    """Read a day of a month, with or without its month and year."""
    match = re.fullmatch(
        rf"(?:(?:{WEEKDAY}),? )?(\d{{1,2}})(st|nd|rd|th)?(?:(?: of)? (month \d+|\D+(?: {YEAR})?))?", text
    )
    if match is None or not (match[2] or match[3]):
        return None
    if match[3] and re.fullmatch(r"month \d+", match[3]):
        raise UsageError(f"Expected a date with the day before the month, got “{match[1]}/{match[3][6:]}”.")
    month = (_named(match[3], today, future) or _unit(match[3], today)) if match[3] else None
    if month and match[3].startswith(("this", "last")) and not (match[2] or " of " in text):
        return None  # "over 50 this month" has no day
    if match[3] and (month is None or month.date_to - (month.date_from or today) > timedelta(31)):
        return None
    number = int(match[1])
    if month and month.date_from:
        first = month.date_from
        if not 0 < number <= calendar.monthrange(first.year, first.month)[1]:
            raise UsageError(f"{first:%B %Y} has no day {number}. Expected a day that exists.")
        start = first.replace(day=number)
        if not re.search(YEAR, text):
            start += relativedelta(years=start < today if future else -(start > today))
        return DayRange(start, start)
    if not 0 < number < 32:
        raise UsageError(f"No month has a day {number}. Expected a day that exists.")
    firsts = (today + relativedelta(day=1, months=ahead if future else -ahead) for ahead in range(3))
    days = (
        first + timedelta(number - 1) for first in firsts if number <= calendar.monthrange(first.year, first.month)[1]
    )
    start = next(day for day in days if (day >= today if future else day <= today))
    return DayRange(start, start)
