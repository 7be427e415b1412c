"""A yes may restate what is proposed, and nothing else."""

from datetime import date

import pytest

from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.actions.yes_no import is_no, says_yes_to
from bankllm.assistant.orders.restated import decision

TODAY = date(2026, 11, 29)
ZOFIA = (
    "transfer",
    {"amount_minor": 12000, "currency": "EUR", "payee_id": "P", "date": "2026-11-29"},
    "Transfer €120.00 from your Current account ending 0201 to Zofia Kowalska ending 5250 today, 29 November 2026",
)
SAVE = (
    "transfer",
    {"amount_minor": 5000, "currency": "GBP", "to_account_id": "S", "date": "2026-12-02"},
    "Transfer £50.00 from your Current account ending 0201 to your Savings account ending 0202 on 2 December 2026",
)
CARD = (
    "freeze_card",
    {"card_id": "C"},
    "Freeze your Joint Visa Debit ending 7953. Nobody can pay with it until you unfreeze it",
)
CANCEL = ("cancel_transfer", {"scheduled_id": "S"}, "Cancel the transfer of £80.00 to Aoife O'Brien on 3 December 2026")

REPORT = ("report_card", {"card_id": "C"}, "Report your Visa Debit ending 4973 as stolen. Nobody can pay with it")
FIVES = (
    "transfer",
    {"amount_minor": 2000, "currency": "GBP", "payee_id": "F", "date": "2026-11-29"},
    "Transfer £20.00 from your Current account ending 1201 to Five-a-side ending 1234 today, 29 November 2026",
)
HEART = (
    ZOFIA[0],
    ZOFIA[1],
    "Transfer £9.00 from your Current account ending 0201 to ❤ ending 1111 today, 29 November 2026",
)


def decide(message: str, what: tuple[str, dict[str, object], str]) -> bool | None:
    tool, arguments, text = what
    ids = {"action_id": "a" * 32, "customer_id": "C", "conversation_id": "t", "proposed_at": 0.0}
    waited = Proposal.model_validate({**ids, "tool": tool, "arguments": arguments, "text": text})
    said = decision(message, waited, TODAY)
    return True if says_yes_to(tool, said) else False if is_no(said) else None


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("Okay, then yes, send the money to Zofia", ZOFIA),
        ("absolutely, please send the 120 euro to Zofia Kowalska", ZOFIA),
        ("yes €120.00 to Kowalska today please", ZOFIA),
        ("yep, a hundred and twenty from my current account please", ZOFIA),
        ("yeah go ahead and transfer it to her", ZOFIA),
        ("yes wednesday is fine", SAVE),
        ("yes, move the fifty quid to my savings from current on the 2nd", SAVE),
        ("yes please freeze that one", CARD),
        ("aye freeze the joint card", CARD),
        ("yes, the joint visa debit ending 7953", CARD),
        ("grand, yeah cancel it so", CANCEL),
        ("yes please hurry", CARD),
        ("yes, cancel the transfer to Aoife", CANCEL),
    ],
)
def test_a_yes_that_names_only_what_is_proposed(message: str, what: tuple[str, dict[str, object], str]) -> None:
    assert decide(message, what) is True


@pytest.mark.parametrize(
    ("message", "what"),
    [
        *(("yes, send 130 to Zofia", ZOFIA), ("yes £120", ZOFIA), ("yes, but send it to Zofia tomorrow", ZOFIA)),
        *(("yes send it to Marek", ZOFIA), ("yes tomorrow", ZOFIA), ("yes 12 to Zofia", ZOFIA)),
        *(("yes, send the money to Zofia?", ZOFIA), ("yes and another 120", ZOFIA), ("yes 120 each", ZOFIA)),
        *(("send the money to Zofia", ZOFIA), ("yes 120.50 to zofia", ZOFIA), ("yes to Zofia and Marek", ZOFIA)),
        *(("yes 120 twice", ZOFIA), ("yes from savings", ZOFIA), ("yes, 120 a month", ZOFIA), ("yes 1.20", ZOFIA)),
        *(("yes forget the payment", ZOFIA), ("yes, don't send it", ZOFIA), ("yes give it a miss", ZOFIA)),
        *(("yes move it from savings to current", SAVE), ("yes thursday", SAVE), ("yes today", SAVE)),
        *(("yes, the visa debit", CARD), ("yes the 7954", CARD), ("yes report it", CARD)),
        *(
            ("just send it", CANCEL),
            ("carry on", CANCEL),
            ("yes send it", CANCEL),
            ("yes stop it just for now", CANCEL),
        ),
        *(
            ("yes, just for today", CARD),
            ("cancel the card", REPORT),
            ("yes, just five", FIVES),
            ("yes 120 grand", ZOFIA),
        ),
        *(("send it to me", ZOFIA), ("yes do it now", SAVE), ("yeah right", ZOFIA), ("aye right pal", ZOFIA)),
        *(("yes is that right", ZOFIA), ("please confirm that is right for me", ZOFIA), ("yes 120 %", ZOFIA)),
        *(("yes give over", ZOFIA), ("no, make it 20", HEART), ("yes, to today", HEART)),
        *(("yes 81 to Aoife", CANCEL), ("yes cancel both", CANCEL), ("yes what about the other one", CANCEL)),
    ],
)
def test_a_message_with_any_other_detail_is_no_yes(message: str, what: tuple[str, dict[str, object], str]) -> None:
    assert decide(message, what) is None


@pytest.mark.parametrize(
    "message", ["no, don't send it to Zofia", "better not, leave it", "nah, forget the transfer", "no, keep that one"]
)
def test_a_no_may_restate_it(message: str) -> None:
    assert decide(message, ZOFIA) is False
