"""A bracket makes the period before it precise."""

from datetime import date

import pytest

from bankllm.assistant.understanding.periods import period
from bankllm.assistant.understanding.slots import Slots

TODAY = date(2026, 11, 29)


@pytest.mark.parametrize(
    ("message", "words", "days"),
    [
        (
            "Italy mid August this year (about 8th to 14th)",
            "mid August this year (about 8th to 14th)",
            "2026-08-08 2026-08-14",
        ),
        ("water bill total 2025 (from august on)", "2025 (from august on)", "2025-08-01 2025-12-31"),
        ("interest over last tax year (to 5 April 2026)", "last tax year (to 5 April 2026)", "2025-04-06 2026-04-05"),
        ("tesco in May (the whole month)", "May (the whole month)", "2026-05-01 2026-05-31"),
        ("pret since the summer (1 sept say)", "since the summer (1 sept say)", "2026-09-01 2026-11-29"),
        ("a refund in the last week?", "the last week", "2026-11-23 2026-11-29"),
        ("a refund last week?", "last week", "2026-11-16 2026-11-22"),
    ],
)
def test_a_period_with_a_bracket(message: str, words: str, days: str) -> None:
    assert Slots(message, {}, TODAY).periods() == [words]
    assert " ".join(map(str, period(words, TODAY) or ())) == days


@pytest.mark.parametrize("words", ["October (3 to 9 May)", "2025 (from 2026 on)", "May (my birthday)"])
def test_a_bracket_that_does_not_fit_is_unread(words: str) -> None:
    assert period(words, TODAY) is None


def test_categories_of_a_list_stay_beside_names() -> None:
    slots = Slots("Uber, takeaways and Ticketmaster in June", {"in": 1, "and": 2}, TODAY, ("Uber", "Ticketmaster"))
    assert slots.read("spending")["merchant"] == ["Uber", "takeaways", "Ticketmaster"]


def test_words_for_a_part_of_a_category_do_not_join_a_list() -> None:
    slots = Slots("school lunches, parentpay, since sept", {"school": 1, "since": 2}, TODAY, ("ParentPay",))
    assert slots.read("spending")["merchant"] == ["parentpay"]
