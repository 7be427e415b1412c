"""A figure is given only if the calls used all that restricts it; stories and corrections restrict nothing."""

from datetime import date

import pytest

from bankllm.assistant.bank.tools import Call
from bankllm.assistant.facts import ReadyCall
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.resolve import resolve

TESCO = {"tool": "spending", "merchant": "Tesco"}
TESCO_IN_OCTOBER = {**TESCO, "period": "October"}
GROCERIES = {"tool": "spending", "category": "groceries", "period": "October"}
LIST = {"tool": "transactions", "period": "October"}


@pytest.mark.parametrize(
    ("message", "call", "unused"),
    [
        ("average at Tesco a month over the last three full months", {**TESCO, "per": "month"}, "last three full"),
        ("what did Tesco cost in the last 3 payslips", TESCO, "last 3 payslips"),
        ("Tesco in September and how does October stand so far?", TESCO_IN_OCTOBER, "September"),
        ("what did I spend at Tesco on Tuesday", TESCO, "Tuesday"),
        ("what did I spend at Tesco yesterday", TESCO, "yesterday"),
        ("Tesco from the 10th in October", TESCO_IN_OCTOBER, "10th"),
        ("list Tesco over £50 in October", {**TESCO_IN_OCTOBER, "tool": "transactions"}, "over £50"),
        ("if I ignore Greggs, what went out in October?", {"tool": "spending", "period": "October"}, "ignore Greggs"),
        ("groceries in October, not Tesco", GROCERIES, "not Tesco"),
        ("Tesco and the council tax in October", TESCO_IN_OCTOBER, "council tax"),
        ("what went to Tesco and Octopus Energy in October", TESCO_IN_OCTOBER, "Octopus Energy"),
        ("how much did I pay him in October", {"tool": "spending", "period": "October"}, "pay him"),
        ("how much did christmas cost me in October", {"tool": "spending", "period": "October"}, "christmas"),
        ("television licence in October", LIST, "television licence"),
    ],
)  # fmt: skip
def test_an_unused_restriction_is_asked_about(
    customer: CustomerView, today: date, message: str, call: Call, unused: str
) -> None:
    (asked,) = resolve([call], customer, today, message)
    assert isinstance(asked, ReadyCall)
    assert f"“{unused}" in asked.unread[0]
    assert "Which payments do you mean?" in asked.unread[0]


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("what did Tesco cost me in October", TESCO_IN_OCTOBER),
        ("I've 2 kids, please: Tesco in October", TESCO_IN_OCTOBER),
        ("I was ill on Tuesday, not great. What did Tesco cost in October?", TESCO_IN_OCTOBER),
        ("Good morning and thanks for last week! What did Tesco cost in October?", TESCO_IN_OCTOBER),
        ("Tesco in September, no, I mean in October", TESCO_IN_OCTOBER),
        ("not September, Tesco in October", TESCO_IN_OCTOBER),
        ("OK, and at the big Tesco in October, so not the Express?", TESCO_IN_OCTOBER),
        ("Greggs... nah just Tesco in October", TESCO_IN_OCTOBER),
        ("have I spent over 200 at Tesco in October", TESCO_IN_OCTOBER),
        ("what did I pay at Tesco in October, not sure I have it", TESCO_IN_OCTOBER),
        ("which shops in October", LIST),
        ("groceries in October minus the refunds", GROCERIES),
        ("Tesco in October, NOT tesco express", TESCO_IN_OCTOBER),
        ("groceries in October without Tesco", {**GROCERIES, "without": "Tesco"}),
        ("what is in the joint account", {"tool": "balance", "account": "joint account"}),
    ],
)  # fmt: skip
def test_words_that_restrict_nothing_do_not_hide_the_figure(
    customer: CustomerView, today: date, message: str, call: Call
) -> None:
    (ready,) = resolve([call], customer, today, message)
    assert isinstance(ready, ReadyCall)
    assert not ready.unread


def test_one_question_stands_for_all_figures_and_other_calls_are_kept(customer: CustomerView, today: date) -> None:
    calls = [TESCO_IN_OCTOBER, {**TESCO, "merchant": "Greggs", "period": "October"}, {"tool": "card_status"}]
    asked, card = resolve(calls, customer, today, "Tesco and Greggs in October and on Tuesday, and is my card on?")
    assert isinstance(asked, ReadyCall)
    assert "Tuesday" in asked.unread[0]
    assert card == ReadyCall("card_status")
