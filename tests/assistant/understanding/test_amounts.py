"""Words for money and counts become numbers, or None, or an error that names them."""

import hypothesis
import pytest
from hypothesis import strategies

from bankllm.assistant.understanding.amounts import MAX_AMOUNT, amount, limit
from bankllm.errors import UsageError


@pytest.mark.parametrize(
    ("words", "minor", "currency"),
    [
        ("£1,200.50", 120050, "GBP"),
        ("45,50 €", 4550, "EUR"),
        ("$800 AUD", 80000, "AUD"),
        ("Rs. 45,000/-", 4500000, "INR"),
        ("thirty five thousand yen", 35000, "JPY"),
        ("55 Singapore dollars", 5500, "SGD"),
        ("2.5k", 250000, None),
        ("fifteen hundred", 150000, None),
        ("half a grand", 50000, None),
        ("a couple of hundred", 20000, None),
        ("2 million naira", 200000000, "NGN"),
        ("twelve pounds fifty", 1250, "GBP"),
        ("ninety-nine and fifty cents", 9950, None),
        ("99p", 99, "GBP"),
        ("2 pounds and 50 pence", 250, "GBP"),
        ("A tenner", 1000, "GBP"),
        ("35 złotych", 3500, "PLN"),
        ("One thousand two hundred and fifty Canadian", 125000, "CAD"),
    ],
)
def test_words_become_minor_units(words: str, minor: int, currency: str | None) -> None:
    assert amount(words) == (minor, currency)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "three fifty",
        "thirty two fifty",
        "a bag",
        "fivety dolars",
        "50 pounds 20 euros",
        "1.234,50",
        "tenner and twenty quid",
        "=5+5",
        "1e12",
    ],
)
def test_what_stays_unclear_is_none(words: str) -> None:
    assert amount(words) is None


@pytest.mark.parametrize(
    "words", ["12.345", "€4.000", "-5", "£-5", "minus ten", "0", "£0.00", "1,000,000,000,000", "9" * 60, "10.50 yen"]
)
def test_amounts_that_no_one_can_pay_are_errors(words: str) -> None:
    with pytest.raises(UsageError, match="Expected an amount") as raised:
        amount(words)
    assert words[:40] in str(raised.value)


@pytest.mark.parametrize(
    ("words", "count"), [("3", 3), ("Five", 5), ("twenty", 20), ("0", None), ("too", None), ("", None), ("2.5", None)]
)
def test_a_limit_is_a_whole_number(words: str, count: int | None) -> None:
    assert limit(words) == count


@hypothesis.given(strategies.text(max_size=30) | strategies.text("0123456789.,-£€k ", max_size=12))
def test_any_text_is_a_positive_amount_or_none_or_an_error(words: str) -> None:
    try:
        found = amount(words)
    except UsageError:
        return
    assert found is None or 0 < found.amount_minor <= 100 * MAX_AMOUNT
