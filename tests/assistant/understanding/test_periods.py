"""Words for periods and days become dates, or None, or an error that names them."""

from datetime import date

import hypothesis
import pytest
from hypothesis import strategies

from bankllm.assistant.understanding.calendar_words import month_first
from bankllm.assistant.understanding.periods import day, period
from bankllm.errors import UsageError

TODAY = date(2026, 11, 29)
"""A Sunday."""


@pytest.mark.parametrize(
    ("words", "begin", "end"),
    [
        ("yesterday", "2026-11-28", "2026-11-28"),
        ("Last  Month", "2026-10-01", "2026-10-31"),
        ("this month", "2026-11-01", "2026-11-29"),
        ("last 3 months", "2026-08-30", "2026-11-29"),
        ("past six months", "2026-05-30", "2026-11-29"),
        ("last fortnight", "2026-11-16", "2026-11-29"),
        ("a fortnight ago", "2026-11-09", "2026-11-15"),
        ("week before last", "2026-11-09", "2026-11-15"),
        ("this weekend", "2026-11-28", "2026-11-29"),
        ("last weekend", "2026-11-21", "2026-11-22"),
        ("last Sunday", "2026-11-22", "2026-11-22"),
        ("Friday night", "2026-11-27", "2026-11-27"),
        ("October", "2026-10-01", "2026-10-31"),
        ("Ocotber", "2026-10-01", "2026-10-31"),
        ("last mnth", "2026-10-01", "2026-10-31"),
        ("last moth", "2026-10-01", "2026-10-31"),
        ("dis munf", "2026-11-01", "2026-11-29"),
        ("bonfire night", "2026-11-05", "2026-11-05"),
        ("the first half of november", "2026-11-01", "2026-11-15"),
        ("second half of last month", "2026-10-16", "2026-10-31"),
        ("first half of last year", "2025-01-01", "2025-06-30"),
        ("between the 3rd and the 9th of this month", "2026-11-03", "2026-11-09"),
        ("christmas day last year", "2025-12-25", "2025-12-25"),
        ("last mon", "2026-11-23", "2026-11-23"),
        ("December", "2025-12-01", "2025-12-31"),
        ("last november", "2025-11-01", "2025-11-30"),
        ("may 2024", "2024-05-01", "2024-05-31"),
        ("twenty twenty three", "2023-01-01", "2023-12-31"),
        ("q3", "2026-07-01", "2026-09-30"),
        ("last quarter", "2026-07-01", "2026-09-30"),
        ("first half of 2025", "2025-01-01", "2025-06-30"),
        ("winter", "2025-12-01", "2026-02-28"),
        ("this tax year", "2026-04-06", "2026-11-29"),
        ("tax year 23/24", "2023-04-06", "2024-04-05"),
        ("3/4", "2026-04-03", "2026-04-03"),
        ("the 31st", "2026-10-31", "2026-10-31"),
        ("17th of last month", "2026-10-17", "2026-10-17"),
        ("29 February 2024", "2024-02-29", "2024-02-29"),
        ("since 1 January", "2026-01-01", "2026-11-29"),
        ("since summer started (1 June)", "2026-06-01", "2026-11-29"),
        ("1st April to till date", "2026-04-01", "2026-11-29"),
        ("aug 1-15", "2026-08-01", "2026-08-15"),
        ("the preceding month", "2026-10-01", "2026-10-31"),
        ("since the start of the year", "2026-01-01", "2026-11-29"),
        ("after 20 November", "2026-11-21", "2026-11-29"),
        ("between 3 and 9 May", "2026-05-03", "2026-05-09"),
        ("3-17 august", "2026-08-03", "2026-08-17"),
        ("from November to January", "2025-11-01", "2026-01-31"),
        ("Boxing Day to New Year's Day", "2025-12-26", "2026-01-01"),
        ("from 6 April 2024 to 5 April 2025", "2024-04-06", "2025-04-05"),
        ("since Easter", "2026-04-05", "2026-11-29"),
        ("Black Friday", "2026-11-27", "2026-11-27"),
        ("from the 16th to the 30th", "2026-10-16", "2026-10-30"),
        ("all year", "2026-01-01", "2026-11-29"),
        ("ytd", "2026-01-01", "2026-11-29"),
        ("mtd", "2026-11-01", "2026-11-29"),
        ("early october", "2026-10-01", "2026-10-10"),
        ("the middle of February", "2026-02-11", "2026-02-20"),
        ("late in February", "2026-02-21", "2026-02-28"),
        ("the day after Halloween", "2026-11-01", "2026-11-01"),
        ("the weekend before Halloween", "2026-10-24", "2026-10-25"),
        ("the month before last month", "2026-09-01", "2026-09-30"),
        ("H1 2026", "2026-01-01", "2026-06-30"),
        ("last week of october", "2026-10-25", "2026-10-31"),
        ("the first two weeks of October", "2026-10-01", "2026-10-14"),
        ("w/c 12 Oct", "2026-10-12", "2026-10-18"),
        ("week ending 18 October", "2026-10-12", "2026-10-18"),
        ("oct '25", "2025-10-01", "2025-10-31"),
        ("10/2026", "2026-10-01", "2026-10-31"),
        ("2026-10", "2026-10-01", "2026-10-31"),
        ("3 Oct 26", "2026-10-03", "2026-10-03"),
        ("3-10-2026", "2026-10-03", "2026-10-03"),
        ("from 1 oct onwards", "2026-10-01", "2026-11-29"),
        ("throughout october", "2026-10-01", "2026-10-31"),
        ("past 48 hours", "2026-11-28", "2026-11-29"),
        ("the month of august", "2026-08-01", "2026-08-31"),
        ("since 2025-11-01", "2025-11-01", "2026-11-29"),
        ("January up to and including March", "2026-01-01", "2026-03-31"),
        ("the four weeks to 22 November", "2026-10-26", "2026-11-22"),
        ("mon to fri last wk", "2026-11-16", "2026-11-20"),
        ("first week of nov", "2026-11-01", "2026-11-07"),
        ("the week of the 9th", "2026-11-09", "2026-11-15"),
        ("weekend of 21 November", "2026-11-21", "2026-11-22"),
        ("week 46", "2026-11-09", "2026-11-15"),
        ("6 and 7 October", "2026-10-06", "2026-10-07"),
        ("Sept/Oct", "2026-09-01", "2026-10-31"),
        ("since I cancelled on 6 Oct", "2026-10-06", "2026-11-29"),
        ("this financial year", "2026-04-06", "2026-11-29"),
        ("since the new tax year began", "2026-04-06", "2026-11-29"),
        ("on sunday", "2026-11-22", "2026-11-22"),
        ("the end of October", "2026-10-25", "2026-10-31"),
        ("beginning of last month", "2026-10-01", "2026-10-07"),
        ("since september started", "2026-09-01", "2026-11-29"),
        ("since like labor day", "2026-09-07", "2026-11-29"),
        ("cyber monday", "2025-12-01", "2025-12-01"),
        ("the November one", "2026-11-01", "2026-11-29"),
        ("nov 15 thru 20", "2026-11-15", "2026-11-20"),
        ("this time last year", "2025-11-01", "2025-11-30"),
        ("Good Friday to Easter Monday", "2026-04-03", "2026-04-06"),
        ("the Easter weekend", "2026-04-03", "2026-04-06"),
        ("the August bank holiday weekend", "2026-08-29", "2026-08-31"),
    ],
)
def test_words_become_days(words: str, begin: str, end: str) -> None:
    assert period(words, TODAY) == (date.fromisoformat(begin), date.fromisoformat(end))


def test_americans_write_the_month_first() -> None:
    assert month_first("between 10/01 and 10/15") == "between 01/10 and 15/10"
    assert month_first("since 9/1/26, in 9/2026") == "since 1/9/26, in 9/2026"


def test_a_period_may_have_no_beginning() -> None:
    assert period("since the start of your records", TODAY) == (None, TODAY)
    assert period("before Easter", TODAY) == (None, date(2026, 4, 4))


@pytest.mark.parametrize(
    "words",
    [
        "",
        "since payday",
        "since august pls, largest first",
        "since I moved out",
        "Ramadan",
        "charm",
        "match",
        "q5",
        "soon",
        "café",
        "50 this month",
        "6 and 9 October",
        "May and June",
    ],
)
def test_what_stays_unclear_is_none(words: str) -> None:
    assert period(words, TODAY) is None


@pytest.mark.parametrize(
    "words",
    ["the 31st of February", "30 feb 2025", "May 32", "10/13", "next month", "2027", "since 2030",
     "between 9 and 3 May", "from 9 may 2026 to 3 may 2026", "tomorrow"],
)  # fmt: skip
def test_impossible_and_future_days_are_errors_that_name_them(words: str) -> None:
    with pytest.raises(UsageError, match="Expected") as raised:
        period(words, TODAY)
    assert any(part in str(raised.value) for part in (words, "February", "May 2026"))


def test_a_transfer_is_on_the_next_such_day_and_a_balance_on_the_latest() -> None:
    assert day("Friday", TODAY, future=True) == date(2026, 12, 4)
    assert day("Friday", TODAY, future=False) == date(2026, 11, 27)
    assert day("20th", TODAY, future=True) == date(2026, 12, 20)
    assert day("by the end of the month", TODAY, future=True) == date(2026, 11, 30)
    assert day("1st of December", TODAY, future=False) == date(2025, 12, 1)
    assert day("a month ago", TODAY, future=False) == date(2026, 10, 29)
    assert day("this time last year", TODAY, future=False) == date(2025, 11, 29)
    assert day("last month", TODAY, future=False) is None
    with pytest.raises(UsageError, match="no day 31"):
        day("31 February", TODAY, future=True)


@hypothesis.given(strategies.text(max_size=40), strategies.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_any_text_is_days_in_order_or_none_or_an_error(words: str, today: date) -> None:
    try:
        found = period(words, today)
    except UsageError:
        return
    assert found is None or (found.date_from or found.date_to) <= found.date_to <= today


VOCABULARY = [
    "last",
    "next",
    "this",
    "the",
    "2",
    "31st",
    "29",
    "feb",
    "may",
    "3/4",
    "2024",
    "between",
    "and",
    "to",
    "from",
    "since",
    "of",
    "month",
    "weeks",
    "ago",
    "quarter",
    "end",
    "before",
    "-",
    "friday",
]


@hypothesis.given(
    strategies.lists(strategies.sampled_from(VOCABULARY), max_size=6),
    strategies.dates(date(2000, 1, 1), date(2100, 1, 1)),
)
def test_words_of_periods_in_any_order_are_safe(words: list[str], today: date) -> None:
    for future in (False, True):
        try:
            found = day(" ".join(words), today, future=future)
        except UsageError:
            continue
        dated = {"2024", "29", "ago", "last"} & set(words)  # "2 feb 29" names a year
        assert found is None or not future or found >= today or dated
    try:
        found = period(" ".join(words), today)
    except UsageError:
        return
    assert found is None or (found.date_from or found.date_to) <= found.date_to <= today
