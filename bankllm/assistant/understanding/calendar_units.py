"""Read one day or one unit of the calendar, as `calendar_words` spells it: "last week", "2nd half of october".

Seasons are meteorological (northern hemisphere), tax years British.
"""

import re
from datetime import date, timedelta
from typing import NamedTuple

from dateutil.easter import easter
from dateutil.relativedelta import MO, SA, relativedelta, weekdays

from bankllm.assistant.understanding import WORDS
from bankllm.assistant.understanding.calendar_words import WEEKDAY, YEAR
from bankllm.errors import UsageError

DAY = timedelta(1)
UNITS = {
    **dict.fromkeys(("week", "weekend"), relativedelta(days=7)),
    **dict.fromkeys(("year", "tax year"), relativedelta(years=1)),
    "day": relativedelta(days=1),
    "month": relativedelta(months=1),
    "quarter": relativedelta(months=3),
}
"""Unit of the calendar → its length."""
_DAYS_AGO = {"tomorrow": -1, "today": 0, "yesterday": 1}
_PARTS_OF_MONTH = {"early": (0, 9), "mid": (10, 19), "late": (20, 30), "1st half": (0, 14), "2nd half": (15, 30)}
"""Part of a month → days from its first day to the first and the last of the part."""
_HOLIDAYS = [(re.compile(pattern), days) for pattern, days in WORDS["holidays"].items()]
_PARTS = [(re.compile(pattern), part) for pattern, part in WORDS["parts"].items()]
_EASTER = {"good friday": -2, "easter": 0, "easter sunday": 0, "easter monday": 1}
"""Holiday → days after Easter Sunday."""
_HAS_NAME = re.compile("|".join((*WORDS["holidays"], *WORDS["parts"], *_EASTER)))
_NAMED = re.compile(rf"(this |last |past )?(.*?)(?:(?:^| of |,? )({YEAR})| of year)?")
_UNIT = re.compile(
    r"(?:(this|current|last|previous|past|next|most recent) )?(?:(\d{1,3}) )?"
    rf"({'|'.join(UNITS)})s?( ago| before last)?"
)
_DATE = re.compile(rf"(?:(?:{WEEKDAY}),? )?(\d{{1,2}})(st|nd|rd|th)?(?:(?: of)? (month \d+|\D+(?: {YEAR})?))?")


class DayRange(NamedTuple):
    date_from: date | None
    """First day; None for a period without a beginning ("until May")."""
    date_to: date
    """Last day, included."""


def lasting(start: date, length: relativedelta | timedelta) -> DayRange:
    return DayRange(start, start + length - DAY)


def one_unit(text: str, today: date, future: bool = False) -> DayRange | None:
    """Return the days of one unit, or one day: the next one if `future`, else the latest. None if it is neither.

    Raises `UsageError` if the day does not exist.
    """
    if match := re.fullmatch(r"(start|beginning|end|last) of (.+)|(month|year) end", text):
        inner = one_unit(match[2] or match[3], today, future)
        edge = inner and (inner.date_from if match[1] in ("start", "beginning") else inner.date_to)
        return lasting(edge, DAY) if edge else None
    if match := re.fullmatch(r"(day|week|weekend|month|quarter|year) (before|after) (.+)", text):
        near, length = one_unit(match[3], today), UNITS[match[1]]
        if near and near.date_from:
            start = near.date_from - length if match[2] == "before" else near.date_to + DAY
            weekend = match[1] == "weekend"
            return lasting(start + relativedelta(weekday=SA), 2 * DAY) if weekend else lasting(start, length)
    if match := re.fullmatch(r"(.+?)(?:,| of)? (last|this) year", text):
        return one_unit(f"{match[1]} {today.year - (match[2] == 'last')}", today, future)
    if match := re.fullmatch(rf"({'|'.join(_PARTS_OF_MONTH)})[ -](?:in |of )?(.+)", text):
        month = one_unit(match[2], today)
        if month and month.date_from and timedelta(27) <= month.date_to - month.date_from < timedelta(31):
            first, last = (month.date_from + number * DAY for number in _PARTS_OF_MONTH[match[1]])
            return DayRange(first, min(last, month.date_to))
    if match := re.fullmatch(r"(1st|2nd|3rd|4th|last)(?: (\d{1,2}))? (day|week)s? of (.+)", text):
        whole, length = one_unit(match[4], today), UNITS[match[3]] * int(match[2] or 1)
        if not whole or not whole.date_from:
            return None
        back = match[1] == "last"
        return lasting(whole.date_to + DAY - length if back else whole.date_from + length * (int(text[0]) - 1), length)
    if match := re.fullmatch(r"week(end)? (?:of|commencing|beginning|(ending)) (.+)|week (\d{1,2})", text):
        return _week(match, today, future)
    if text in _DAYS_AGO:
        return lasting(today - _DAYS_AGO[text] * DAY, DAY)
    if match := re.fullmatch(rf"(?:(this|last|next) )?({WEEKDAY})", text):
        weekday = weekdays[weekday_number(match[2])]
        if future or match[1] == "next":
            return lasting(today + DAY + relativedelta(weekday=weekday), DAY)
        return lasting(today - (match[1] == "last") * DAY + relativedelta(weekday=weekday(-1)), DAY)
    return _unit(text, today) or _named(text, today, future) or _date(text, today, future)


def weekday_number(name: str) -> int:
    return ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].index(name[:3])


def _week(match: re.Match[str], today: date, future: bool) -> DayRange | None:
    """Read `week of 9 november`, `weekend of the 21st`, `week ending sunday`, `week 46`."""
    named = one_unit(match[3], today, future) if match[3] else None
    if named and match[2]:
        return DayRange(named.date_to - timedelta(6), named.date_to)
    if match[4] and 0 < int(match[4]) < 54:
        monday = date.fromisocalendar(today.year, 1, 1) + timedelta(7 * int(match[4]) - 7)
    elif named and named.date_from:
        monday = named.date_from + relativedelta(weekday=MO(-1))
    else:
        return None
    return DayRange(monday + timedelta(5 if match[1] else 0), monday + timedelta(6))


def _unit(text: str, today: date) -> DayRange | None:
    """Read `this month`, `last week`, `past 3 months`, `2 weeks ago`, `week before last`."""
    match = _UNIT.fullmatch(text)
    if match is None or (match[4] == " ago" and not match[2]):
        return None
    which, count, unit, length = match[1], int(match[2] or 1), match[3], UNITS[match[3]]
    if match[4] != " ago" and unit != "weekend" and (match[2] or which == "past"):
        return DayRange(today - length * count + DAY, today)
    if unit == "weekend":
        start = today + relativedelta(weekday=MO(-1)) + timedelta(5 if today.weekday() > 4 or which else -2)
    elif unit in ("day", "week"):
        start = today if unit == "day" else today + relativedelta(weekday=MO(-1))
    elif unit == "tax year":
        start = date(today.year - (today < date(today.year, 4, 6)), 4, 6)
    else:
        months = length.months or 12
        start = date(today.year, (today.month - 1) // months * months + 1, 1)
    back = {"next": -1, "this": 0, "current": 0, None: 0}.get(which, 1) + 2 * bool(match[4])
    return lasting(start - length * (count if match[4] == " ago" else back), 2 * DAY if unit == "weekend" else length)


def _named(text: str, today: date, future: bool) -> DayRange | None:
    """Read months, years, quarters, halves, seasons, tax years and holidays, with or without a year."""
    if match := re.fullmatch(r"tax year (?:20)?(\d\d) ?[/-] ?(?:20)?(\d\d)", text):
        first, last = map(int, match.groups())
        return lasting(date(2000 + first, 4, 6), UNITS["year"]) if (first + 1) % 100 == last else None
    named = _NAMED.fullmatch(text)
    which, name, stated = named.groups() if named else ("", "", "")
    long = re.fullmatch(r"(easter|.*bank holiday) weekend", name)
    name = f"{long[1]} monday" if long else name
    if not _HAS_NAME.fullmatch(name) or not (name or stated):
        return None
    year = int(stated or today.year)
    start, length = _in_year(name, year)
    if not stated and future:
        year += start + length <= today
    elif not stated:
        year -= start > today or (which == "last " and start + length > today)
    start, length = _in_year(name, year)
    days = (3 if "easter" in name else 2) if long else 0  # from Good Friday, or from Saturday, until Monday
    return lasting(start - days * DAY, length + relativedelta(days=days))


def _in_year(name: str, year: int) -> tuple[date, relativedelta]:
    """Return the first day of a holiday or of a part of the year, and its length."""
    if name in _EASTER:
        return easter(year) + _EASTER[name] * DAY, UNITS["day"]
    if holiday := next((days for pattern, days in _HOLIDAYS if pattern.fullmatch(name)), None):
        month, first, *weekday = holiday
        return date(year, month, first) + relativedelta(weekday=weekday[0] if weekday else None), UNITS["day"]
    month, months = next(part for pattern, part in _PARTS if pattern.fullmatch(name))
    return date(year, month, 1), relativedelta(months=months)


def _date(text: str, today: date, future: bool) -> DayRange | None:
    """Read a day of a month, with or without its month and year."""
    match = _DATE.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return None
    number, named = int(match[1]), match[3] or ""
    if re.fullmatch(r"month \d+", named):
        raise UsageError(f"Expected a date with the day before the month, got “{match[1]}/{named[6:]}”.")
    month = (_named(named, today, future) or _unit(named, today)) if named else None
    if month and named.startswith(("this", "last")) and not (match[2] or " of " in text):
        return None  # "over 50 this month" has no day
    if named and (month is None or month.date_to - (month.date_from or today) > timedelta(31)):
        return None
    if month and month.date_from:
        start = _day_of(month.date_from, number)
        if start is None:
            raise UsageError(f"{month.date_from:%B %Y} has no day {number}. Expected a day that exists.")
        if not re.search(YEAR, text):
            start += relativedelta(years=start < today if future else -(start > today))
        return lasting(start, DAY)
    if not 0 < number < 32:
        raise UsageError(f"No month has a day {number}. Expected a day that exists.")
    firsts = (today + relativedelta(day=1, months=ahead if future else -ahead) for ahead in range(3))
    days = (day for first in firsts if (day := _day_of(first, number)))
    return lasting(next(day for day in days if (day >= today if future else day <= today)), DAY)


def _day_of(first: date, number: int) -> date | None:
    """Return a day of the month that begins on `first`; None if the month has no such day."""
    day: date = first + relativedelta(day=number)
    return day if day.day == number else None
