"""A figure is found in any notation, differs from every other one, and no digit is ignored."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bankllm.assistant.bank.ledger import format_money
from bankllm.util.figures import find_figures, known_figures


@pytest.mark.parametrize(
    "text", ["£1,204.50", "(£1,204.50)", "**£1,204**.50", "£1,2\u200b04.50", "£1，204.50", "£１２０４.50"]
)
def test_punctuation_marks_and_wide_digits_make_no_other_figure(text: str) -> None:
    assert find_figures(f"Your balance is {text}.") == {"£1204.5"}


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("five thousand pounds", {"5 thousand pounds"}),
        ("twenty-three euros", {"23 euros"}),
        ("one pound", {"1 pound"}),
        ("one of them", set()),
        ("two accounts", {"2"}),
        ("£5k", {"£5k"}),
        ("50 p", {"50 p"}),
        ("ten or so pounds", {"10"}),
        ("(in GBP): 10", {"10"}),
        ("in pounds: 10", {"10"}),
        ("£ 5", {"£ 5"}),
        ("1 204.50", {"1 204.5"}),
        ("5 to 10", {"5", "10"}),
        ("10, pounds", {"10"}),
        ("£5 £6", {"£5", "£6"}),
        ("-£6.23", {"-£6.23"}),
        ("minus £6.23", {"minus £6.23"}),
        ("CA$5", {"ca$5"}),
        ("10 %", {"10 %"}),
        ("2026-11-18: £5", {"18 november 2026", "£5"}),
        ("18th of November 2026", {"18 november 2026"}),
        ("18 Nov", {"18 november"}),
        ("May 5", {"5 may"}),
        ("you may march", set()),
        ("yesterday", {"yesterday"}),
        ("[IBAN …0101]", {"0101"}),
        ("half past 24h", {"24h"}),
        ("https://Example.org/a.", {"https://example.org/a"}),
        ("me@example.org", {"me@example.org"}),
        ("1 to 5 May 2026", {"1 may 2026", "5 may 2026"}),
        ("3, 5 and 7 October", {"3 october", "5 october", "7 october"}),
        ("November: £10.00", {"november", "£10"}),
        ("EDF £31.44", {"£31.44"}),
        ("-CHF 20.00", {"-20 chf"}),
        ("£5.50 two days", {"£5.5", "2"}),
        ("2026-02-30", {"2026-02-30"}),
        (".5 or ½", {".5", "1⁄2"}),
    ],
)
def test_each_kind(text: str, figures: set[str]) -> None:
    assert find_figures(f"It is {text}") == figures


@given(st.integers(-(10**9), 10**9), st.sampled_from(["GBP", "EUR", "JPY", "CHF"]), st.sampled_from([".", ", and", ""]))
def test_formatted_money_is_one_figure(minor: int, currency: str, after: str) -> None:
    money = format_money(minor, currency)
    figure = re.sub(r"\.0+\b|(\.\d*[1-9])0+\b", r"\1", money.replace(",", "")).casefold()
    assert find_figures(f"It is {money}{after}") == {figure}


@given(st.text(alphabet="0123456789abAB £€.,-/ …\n'", max_size=30))
def test_no_digit_is_ignored(text: str) -> None:
    text = re.sub(r"\d{4}-\d\d-\d\d", "", text)  # the month of such a date becomes a word
    found = "".join("".join(find_figures(f"_{text}_")))
    assert {c for c in text if c.isdigit() and c != "0"} <= set(found)


def test_parts_of_dates_and_amounts_without_sign_are_known() -> None:
    known = known_figures("Spent at Lidl, 1 October 2026 to 31 October 2026: -£12.50 in 4 payments")
    assert find_figures("£12.50 in October 2026, from 1 to 31 October, 4 times in 2026") <= known
    assert not find_figures("-£12.51") <= known
    assert not find_figures("31 payments") <= known
    assert not find_figures("November 2026") <= known
