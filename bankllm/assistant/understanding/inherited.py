"""What a message takes from the messages before it."""

import re
from collections.abc import Iterator, Sequence

from bankllm.assistant.understanding import calendar_words
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


def anchored(wanted: Sequence[str], spoken: Sequence[str], context: Sequence[str]) -> Iterator[str]:
    """Yield the periods; "the month before" and days without a month become those of the period that was named last.

    Days without a year are of the year that the same message names.
    """
    years = [year[1] for one in context if (year := R["of_year"].fullmatch(one))]
    for words in wanted:
        before, others = R["the_one_before"].fullmatch(words), [one for one in spoken if one != words]
        month = R["of_month"].search(others[-1]) if others and R["days_only"].fullmatch(words) else None
        if before and others:
            yield f"{before[1].split()[0]} before {others[-1]}"
        elif years and R["of_month"].search(words) and not re.search(calendar_words.YEAR, words):
            yield f"{words} of {years[-1]}"
        else:
            yield f"{words} of {month[0]}" if month else words
