"""What a message takes from the messages before it."""

import re
from collections.abc import Iterator, Sequence
from datetime import date

from bankllm.assistant.understanding import calendar_words
from bankllm.assistant.understanding.periods import period, readable
from bankllm.assistant.understanding.routes import P, R
from bankllm.assistant.understanding.sum_wishes import SUMS

EVER = re.compile(r"\bever\b", re.IGNORECASE)
"""A word of a question about all days."""


def inherited(tool: str, values: dict[str, list[str]], earlier: str, last: str) -> dict[str, list[str]]:
    """Return of an earlier message's values those that the last message takes from it."""
    kept = set(values)
    if P["shares_in"].search(last):
        kept &= {"account"}
    if P["to_whom"].search(last):
        kept &= {"account", "period"}
    if EVER.search(last):
        kept -= {"period"}
    if tool in SUMS and R["order"].search(earlier):
        kept -= {"minimum", "maximum"}  # an amount to pay bounds no list
    if tool == "balance" and P["asks"].search(last):
        kept -= {"date"}
    return {name: words for name, words in values.items() if name in kept}


def anchored(wanted: Sequence[str], spoken: Sequence[str], context: Sequence[str], today: date) -> Iterator[str]:
    """Yield the periods; "the month before" and days without a month become those of the period that was named last.

    Days without a year are of the year that the same message names.
    """
    years = [year[1] for one in context if (year := R["of_year"].fullmatch(one))]
    for words in wanted:
        before, others = R["the_one_before"].fullmatch(words), [one for one in spoken if one != words]
        month = R["of_month"].search(others[-1]) if others and R["days_only"].fullmatch(words) else None
        earlier = _month_before(words, others[-1], today) if others else None
        if earlier:
            yield earlier
        elif before and others:
            yield f"{before[1].split()[0]} before {others[-1]}"
        elif years and R["of_month"].search(words) and not re.search(calendar_words.YEAR, words):
            yield f"{words} of {years[-1]}"
        else:
            yield f"{words} of {month[0]}" if month else words


def _month_before(words: str, spoken: str, today: date) -> str | None:
    """Return "the October before" with its year, and for "the year before" the same month of that year."""
    named, month = R["month_before"].fullmatch(words), R["of_month"].search(spoken)
    of_year = R["year_before"].fullmatch(words) and month
    if not (named or of_year) or not readable(spoken, today):
        return None
    days = period(spoken, today)
    name = named[1] if named else month[0].split()[0] if month else ""
    if not days or not days.date_from or (of_year and days.date_from.replace(day=1) != days.date_to.replace(day=1)):
        return None
    number = next(place for place, one in enumerate(calendar_words.MONTHS) if one.startswith(name[:3].lower()) and one)
    return f"{name} {days.date_from.year - (number >= days.date_from.month)}"


def until_now(words: str, today: date) -> list[str]:
    """Return words for as many days up to today as a period has that is over, if none of them is in it."""
    days = period(words, today) if readable(words, today) else None
    if not days or not days.date_from or days.date_to >= today:
        return []
    length = min((days.date_to - days.date_from).days + 1, (today - days.date_to).days)
    return [f"past {length} days"]
