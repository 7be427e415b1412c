"""What takes an order back is no order, and the message's own word decides between freezing and unfreezing."""

import pytest

from bankllm.assistant.bank.tools import Call
from bankllm.assistant.understanding.orders import frozen_or_not, takes_back

EARLIER: Call = {"tool": "transfer", "amount": "one hundred pounds", "to": "Margaret"}


@pytest.mark.parametrize(
    ("message", "more", "back"),
    [
        ("Oh, on reflection, no. I shall give it to her on Sunday in person.", {"date": "on Sunday"}, True),
        ("no, I’ll see her tomorrow", {"date": "tomorrow"}, True),
        ("actually I'll hand her the cash myself", {}, True),
        ("no that is wrong", {}, True),
        ("no, on Sunday", {"date": "on Sunday"}, False),
        ("no, I'll make it 50", {"amount": "50"}, False),
        ("no, I'll send it to Tom instead", {"to": "Tom"}, False),
        ("don't forget the reference rent", {"reference": "rent"}, False),
        ("and tomorrow please", {"date": "tomorrow"}, False),
        ("I'll need to send her one hundred pounds", {}, False),
    ],
)
def test_a_no_without_another_order_takes_the_order_back(message: str, more: dict[str, str], back: bool) -> None:
    assert takes_back([EARLIER | more], message) is back


def test_in_person_is_no_wish_for_a_person() -> None:
    person: Call = {"tool": "human_agent"}
    assert takes_back([person], "no. I'll give it to him in person")
    assert not takes_back([person], "no, I'll talk to somebody in person")


@pytest.mark.parametrize(
    ("read", "message", "tool"),
    [
        ("unfreeze_card", "freeze it again please", "freeze_card"),
        ("freeze_card", "please unblock the visa", "unfreeze_card"),
        ("unfreeze_card", "take the block off my card", "unfreeze_card"),
        ("unfreeze_card", "found it, unfreeze it", "unfreeze_card"),
        ("unfreeze_card", "freeze the visa and unfreeze the mastercard", "unfreeze_card"),
        ("report_card", "stolen, block it", "report_card"),
    ],
)
def test_the_word_of_the_message_decides_between_freezing_and_unfreezing(read: str, message: str, tool: str) -> None:
    call = frozen_or_not({"tool": read, "card": "visa"}, message)
    assert call == {"tool": tool, "card": "visa"}
