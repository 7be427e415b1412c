"""The rules for follow-up messages; `test_engine.py` tests whole conversations."""

import pytest

from bankllm.assistant.followups import is_follow_up, stands_alone

FOLLOW_UPS = [
    *("and the last three transactions?", "And yesterday?", "also my IBAN", "what about my savings?", "… and then?"),
    *("How about the other account", "same for the card", "then cancel it", "plus the fees"),
]
OTHERS = [
    *("", "What is my balance and my IBAN?", "android pay does not work", "samesies", "Thence", "surplus money"),
    *("Please show the last three transactions", "What is about to be charged?", "I also need a card"),
]


def test_messages_that_continue_another_one():
    assert [message for message in FOLLOW_UPS + OTHERS if is_follow_up(message)] == FOLLOW_UPS


@pytest.mark.parametrize(
    ("message", "alone"),
    [
        ("my balance and my last 2 payments", True),
        ("transfer 50 pounds to my mum", True),
        ("and at Tesco in the summer?", False),
        ("oh. and at Tesco?", False),
        ("from my savings account please", False),
        ("show me the larger ones", False),
        ("no, I meant in September", False),
        ("£50", False),
    ],
)
def test_a_complete_message_stands_alone(message, alone):
    assert stands_alone(message) == alone
