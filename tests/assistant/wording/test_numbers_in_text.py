"""All notations of a number give the same result, and no digit is ignored."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bankllm.assistant.bank.ledger import format_money
from bankllm.assistant.wording.numbers_in_text import TextNumber, find_numbers, is_among


def amount(value: str, unit: str) -> TextNumber:
    return TextNumber("amount", Decimal(value), unit)


def number(value: int) -> TextNumber:
    return TextNumber("number", Decimal(value))


@pytest.mark.parametrize(
    "text",
    [
        "£1,204.50",
        "£1204.5",
        "GBP 1204.50",
        "GBP1,204.50",
        "1,204.50 GBP",
        "1204.50 pounds",
        "£ 1 204.50",
        "1.204,50 £",
        "**£1,204**.50",
        "£1,2\u200b04.50",
        "£1，204.50",  # a full-width comma
        "£１２０４.50",
    ],
)
def test_notations_of_one_amount(text: str) -> None:
    assert find_numbers(f"Your balance is {text}.") == {amount("1204.5", "GBP")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("five thousand pounds", amount("5000", "GBP")),
        ("One hundred and twenty-three euros", amount("123", "EUR")),
        ("one pound", amount("1", "GBP")),
        ("£5k", amount("5000", "GBP")),
        ("2.5 million dollars", amount("2500000", "USD")),
        ("50p", amount("0.5", "GBP")),
        ("ten or so pounds", amount("10", "GBP")),
        ("(in GBP): 10", amount("10", "GBP")),
        ("in pounds: 10", amount("10", "GBP")),
        ("£5 in your euro account", amount("5", "GBP")),
        ("ten grand", amount("10", "grand")),
        ("-£6.23", amount("-6.23", "GBP")),
        ("£-6.23", amount("-6.23", "GBP")),
        ("minus £6.23", amount("-6.23", "GBP")),
        ("US$5", amount("5", "USD")),
        ("CA$5", amount("5", "CA$")),
        ("¥12,000", amount("12000", "JPY")),
        ("10%", amount("10", "%")),
        ("2026-11-18", TextNumber("date", (2026, 11, 18))),
        ("18/11/2026", TextNumber("date", (2026, 11, 18))),
        ("18th of November 2026", TextNumber("date", (2026, 11, 18))),
        ("November 18, 2026", TextNumber("date", (2026, 11, 18))),
        ("18 Nov", TextNumber("date", (None, 11, 18))),
        ("November", TextNumber("date", (None, 11, None))),
        ("yesterday", TextNumber("code", "yesterday")),
        ("GB47 DEMO 1000 0110 0001 01", TextNumber("code", "gb47demo10000110000101")),
        ("[IBAN …0101]", TextNumber("account", "0101")),
        ("ending in 0101", TextNumber("account", "0101")),
        ("two accounts", TextNumber("count", Decimal(2), "account")),
        ("24h", TextNumber("code", "24h")),
        ("https://Example.org/a.", TextNumber("address", "https://example.org/a")),
        ("£1,204,50", TextNumber("unclear", "£1,204,50")),
    ],
)
def test_each_kind(text: str, expected: TextNumber) -> None:
    assert find_numbers(f"It is {text}") == {expected}


def test_ranges_lists_and_single_words() -> None:
    assert find_numbers("5-10 days, or five to ten; one of them") == {number(5), number(10)}
    assert find_numbers("1. Everyday\n2. Savings\n7. Other") == {number(7)}
    assert find_numbers("2 pounds in accounts") == {amount("2", "GBP")}


def test_known_number_covers_less_specific_ones() -> None:
    known = find_numbers("Everyday: balance -£5.00, IBAN GB47DEMO10000110000101, opened 2020-01-02. It takes 10 days.")
    for text in ("-£5", "-5", "10 days", "2 January", "…0101"):
        assert all(is_among(found, known) for found in find_numbers(text)), text
    for text in ("£5", "€-5", "£10", "10 pounds", "3 January", "2 January 2021", "…0102"):
        assert not all(is_among(found, known) for found in find_numbers(text)), text


@given(st.integers(-(10**9), 10**9), st.sampled_from(["GBP", "EUR", "JPY", "CHF"]), st.sampled_from([".", ", and", ""]))
def test_formatted_money_is_parsed_back(minor: int, currency: str, after: str) -> None:
    value = Decimal(minor) if currency == "JPY" else Decimal(minor) / 100
    assert find_numbers(f"It is {format_money(minor, currency)}{after}") == {TextNumber("amount", value, currency)}


@given(st.text(alphabet="0123456789abAB £€.,-/ …\n'", max_size=30))
def test_no_digit_is_ignored(text: str) -> None:
    digits = any(character.isdigit() for character in text)
    assert bool(find_numbers(f"_{text}_")) >= (digits and not text.strip().startswith("1"))  # “1.” may number a list
