"""Account numbers are masked in every way people write them, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bankllm.assistant.bank.redaction import mask


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("my card 4111 1111 1111 1111 was declined", "my card [card …1111] was declined"),
        ("card:4111-1111-1111-1111!", "card:[card …1111]!"),
        ("4111111111111111", "[card …1111]"),
        ("amex 378282246310005.", "amex [card …0005]."),
        ("send it to GB82 WEST 1234 5698 7654 32 please", "send it to [IBAN …5432] please"),
        ("to gb82west12345698765432", "to [IBAN …5432]"),
        ("DE89370400440532013000 or DE89 3704 0044 0532 0130 00 now", "[IBAN …3000] or [IBAN …3000] now"),
        ("SSN 536-90-4399", "SSN [SSN …4399]"),
        ("two: 4111111111111111, 5500005555555559", "two: [card …1111], [card …5559]"),
    ],
)
def test_what_opens_an_account_is_masked(text, masked):
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "order 4111 1111 1111 1112",  # the check digit is wrong
        "GB82 WEST 1234 5698 7654 33",
        "I paid 1,234.56 on 2026-11-23 at 10:15",
        "call 020 7946 0958 or +44 20 7946 0958",
        "my balance is 12345678",
        "000-12-3456",  # no such area
        "🙂 مرحبا",
        "",
    ],
)
def test_everything_else_stays(text):
    assert mask(text) == text


@given(st.text(max_size=200))
def test_any_text_can_be_masked_and_masked_again(text):
    assert mask(mask(text)) == mask(text)
