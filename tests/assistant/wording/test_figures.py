"""A figure is found in any notation, differs from every other one, and no digit is ignored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bankllm.assistant.bank.ledger import format_money
from bankllm.assistant.wording.figures import find_figures


@pytest.mark.parametrize(
    "text", ["£1,204.50", "(£1,204.50)", "**£1,204**.50", "£1,2\u200b04.50", "£1，204.50", "£１２０４.50"]
)
def test_punctuation_marks_and_wide_digits_make_no_other_figure(text: str) -> None:
    assert find_figures(f"Your balance is {text}.") == {"£1204.50" if "１" in text else "£1,204.50"}


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        ("five thousand pounds", {"5 thousand pounds"}),
        ("twenty-three euros", {"twenty-three euros"}),
        ("one pound", {"1 pound"}),
        ("one of them", set()),
        ("two accounts", {"2"}),
        ("£5k", {"£5k"}),
        ("50 p", {"50 p"}),
        ("ten or so pounds", {"10", "pounds"}),
        ("(in GBP): 10", {"gbp 10"}),
        ("in pounds: 10", {"pounds 10"}),
        ("£ 5", {"£ 5"}),
        ("1 204.50", {"1 204.50"}),
        ("5 to 10", {"5", "10"}),
        ("10, pounds", {"10", "pounds"}),
        ("£5 £6", {"£5", "£6"}),
        ("-£6.23", {"-£6.23"}),
        ("minus £6.23", {"minus £6.23"}),
        ("CA$5", {"ca$5"}),
        ("10 %", {"10 %"}),
        ("2026-11-18: £5", {"2026-11-18", "£5"}),
        ("18th of November 2026", {"18th", "november 2026"}),
        ("18 Nov", {"18 nov"}),
        ("May 5", {"may 5"}),
        ("you may march", set()),
        ("yesterday", {"yesterday"}),
        ("[IBAN …0101]", {"0101"}),
        ("half past 24h", {"24h"}),
        ("https://Example.org/a.", {"https://example.org/a"}),
        ("me@example.org", {"me@example.org"}),
        (".5 or ½", {".5", "1⁄2"}),
    ],
)
def test_each_kind(text: str, figures: set[str]) -> None:
    assert find_figures(f"It is {text}") == figures


@given(st.integers(-(10**9), 10**9), st.sampled_from(["GBP", "EUR", "JPY", "CHF"]), st.sampled_from([".", ", and", ""]))
def test_formatted_money_is_one_figure(minor: int, currency: str, after: str) -> None:
    money = format_money(minor, currency)
    assert find_figures(f"It is {money}{after}") == {money.casefold()}


@given(st.text(alphabet="0123456789abAB £€.,-/ …\n'", max_size=30))
def test_no_digit_is_ignored(text: str) -> None:
    found = "".join("".join(find_figures(f"_{text}_")))
    assert {c for c in text if c.isdigit()} <= set(found)
