"""Averages, rankings and exclusions are read by closed lists of words, and nothing else becomes one."""

from datetime import date

import pytest

from bankllm.assistant.facts import Question, ReadyCall
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.resolve import resolve
from bankllm.assistant.understanding.sum_wishes import wish


@pytest.mark.parametrize(
    ("message", "plain", "asked"),
    [
        ("what do I spend on coffee per week", "what do I spend on coffee", {"per": "week"}),
        ("average weekly shop", "weekly shop", {"per": "week"}),
        ("average monthly spend at Tesco", "spend at Tesco", {"per": "month"}),
        ("what's my average grocery bill", "what's my grocery bill", {"per": "payment"}),
        ("how much do I spend each time at Costa", "how much do I spend at Costa", {"per": "payment"}),
        ("how much did I spend a week ago", "how much did I spend a week ago", {}),
        ("how much can I spend per day", "how much can I spend per day", {}),
        ("when do I usually get paid", "when do I usually get paid", {}),
        ("What's the average... no just the total", "What's the average... no just the total", {}),
        ("how much does Three take each month and when", "how much does Three take each month and when", {}),
        ("everything except rent and bills in May", "everything in May", {"without": "rent and bills"}),
        ("Apart from rent, what did I spend in May?", ", what did I spend in May?", {"without": "rent"}),
        ("how much in May excluding nothing", "how much in May excluding nothing", {}),
        ("except those over £50 in May", "under £50 in May", {}),
        ("waitrose, leave out anything under twenty quid", "waitrose, over twenty quid", {}),
        ("groceries not at Tesco", "groceries", {"without": "Tesco"}),
        ("not at Tesco on my joint account", "not at Tesco on my joint account", {}),
        ("average per month without rent", "average per month without rent", {"without": "rent", "per": "month"}),
        ("spent on the Italy trip in May", "spent in May", {"foreign": "Italy"}),
        ("what I spent in yen in May", "what I spent in May", {"foreign": "yen"}),
        ("fees of my Europe vacation", "fees of my Europe vacation", {}),
        ("Zalando minus the refunds", "Zalando minus the refunds", {}),
        ("everything in May, the rent no", "everything in May", {"without": "rent"}),
        ("how often over £20 in May", "how often over £20 in May", {}),
        ("what do I spend least on", "what do I spend least on", {"by": "category", "order": "smallest"}),
        ("my smallest category", "my smallest category", {"by": "category", "order": "smallest"}),
        ("which shops did I use most recently", "which shops did I use most recently", {}),
        ("where did I pay the most in one go", "where did I pay the most in one go", {}),
        ("what did I spend most on in May", "what did I spend most on in May", {"by": "category"}),
    ],
)  # fmt: skip
def test_what_a_message_wishes(message: str, plain: str, asked: dict[str, str]) -> None:
    assert wish(message) == (plain, asked)


@pytest.mark.parametrize(
    ("words", "without"),
    [
        ("groceries", [{"category": "groceries"}]),
        ("Marks and Spencer", [{"merchant": "Marks & Spencer"}]),
        ("the pubs, Tesco and refunds", [{"category": "pubs"}, {"merchant": "Tesco"}, {"kind": "refund"}]),
        ("payments to Mum", [{"merchant": "Mum"}]),
        ("Tesco and anything over £100", None),
        ("Pret", None),
        ("shoes", None),
        ("the joint account", [{"account_id": "A3"}]),
        ("transfers to the joint", [{"kind": "own_transfer"}]),
        ("the credit card", None),
    ],
)
def test_what_is_left_out_is_read_wholly_or_said(
    customer: CustomerView, today: date, words: str, without: list[dict[str, str]] | None
) -> None:
    call = {"tool": "spending", "period": "October", "without": words}
    (ready,) = resolve([call], customer, today)
    assert isinstance(ready, ReadyCall)
    assert ready.arguments.get("without") == without
    assert bool(ready.unread) == (without is None)


@pytest.mark.parametrize(
    ("per", "last"),
    [("day", "2026-11-28"), ("week", "2026-11-22"), ("month", "2026-10-31"), ("year", "2026-10-31"), ("payment", None)],
)
def test_an_average_without_days_is_of_whole_units(
    customer: CustomerView, today: date, per: str, last: str | None
) -> None:
    (ready,) = resolve([{"tool": "spending", "merchant": "Tesco", "per": per}], customer, today)
    assert isinstance(ready, ReadyCall)
    assert ready.arguments.get("date_to") == last


def test_what_fits_nothing_is_said_before_anything_is_asked(customer: CustomerView, today: date) -> None:
    (ready,) = resolve([{"tool": "spending", "merchant": "Edeka", "period": "in the thing"}], customer, today)
    assert isinstance(ready, ReadyCall)
    assert ready.unread == ("There is no merchant “Edeka” in your accounts.",)
    (place,) = resolve([{"tool": "spending", "merchant": "Tesco", "period": "in Paris"}], customer, today)
    assert isinstance(place, ReadyCall)
    assert "do not say where you paid" in place.unread[0]
    (asked,) = resolve([{"tool": "spending", "merchant": "Tesco", "period": "in the thing"}], customer, today)
    assert isinstance(asked, Question)
