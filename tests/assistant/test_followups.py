"""The rules for follow-up messages; `test_engine.py` tests whole conversations."""

import pytest

from bankllm.assistant.followups import MAX_TRANSACTIONS, is_follow_up, stands_alone, wanted_count, wants_one

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
    ("message", "count"),
    [
        ("and the last three transactions?", 3),
        ("my last 7 payments", 7),
        ("THE TWO MOST RECENT BOOKINGS", 2),
        ("ten latest purchases please", 10),
        ("show 12 transactions", 12),
        ("1 movement", 1),
        ("my last 999 transactions", MAX_TRANSACTIONS),
        ("the last 0 transactions", 1),
        ("my transactions", 5),
        ("the last twelve hundred transactions", 5),
        ("payments since 2026", 5),
        ("a card ending in 1234 5 days ago", 5),
        ("my last 1000000 transactions", 5),
    ],
)
def test_wanted_count(message, count):
    assert wanted_count(message, 5) == count


def test_a_single_transaction_is_told_from_several():
    single = ["my last transaction", "what was the most recent payment", "largest payment", "when did I last pay"]
    several = ["my last 2 transactions", "the largest payments", "payments in the last month", "last month's purchases"]
    assert [message for message in single + several if wants_one(message)] == single


@pytest.mark.timeout(20)  # a regular expression with exponential backtracking would not finish
@pytest.mark.parametrize("message", ["last " * 400, "1" * 2000, "and " * 500, "\n" * 2000, "(" * 2000, " ,;-" * 500])
def test_long_messages_are_processed_quickly(message):
    assert wanted_count(message, 5) == 5
    assert is_follow_up(message) == message.startswith("and")


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
