"""Which messages end a regular payment, and which changed details of a waiting transfer are taken."""

from datetime import date
from typing import Any

import pytest

from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.bank.ledger import StandingOrder
from bankllm.assistant.facts import Question, ReadyCall
from bankllm.assistant.orders.regular_orders import chosen, ended, means_another, orders_to_end
from bankllm.assistant.orders.while_waiting import changed_inside
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.vectors.namespaces import Message

TODAY = date(2026, 11, 29)
ORDERS = [
    StandingOrder(f"O-{name}", "A", kind, name, minor, "GBP", 1, "2026-12-01")
    for name, kind, minor in (
        *(("Direct Line", "direct_debit", 1200), ("Three", "direct_debit", 1000)),
        ("Netflix", "subscription", 1000),
    )
]
WAITED = Proposal.model_validate(
    {
        **{"action_id": "a" * 32, "customer_id": "C", "conversation_id": "t", "proposed_at": 0.0, "tool": "transfer"},
        "arguments": {"amount_minor": 12000, "currency": "GBP", "payee_id": "P", "date": "2026-11-29"},
        "text": "Transfer £120.00",
    }
)


@pytest.mark.parametrize(
    "message",
    [
        *("show me the three biggest payments at the end of October", "Netflix payments since the end of August"),
        *("send three pounds to mum at the end of the week", "how do I cancel a direct debit", "keep Netflix"),
        *("did you stop my Three direct debit", "what do I pay at the end of the month", "I have cancelled Netflix"),
        *("if I cancel Netflix, will I be charged", "don't cancel Netflix", "I didn't want Netflix cancelled"),
    ],
)
def test_a_message_that_orders_no_end(message: str) -> None:
    assert not orders_to_end(message)


@pytest.mark.parametrize(
    ("message", "order"),
    [
        ("cancel Netflix, Three and Direct Line", "cancel Netflix, Three and Direct Line"),
        ("my son says I ought to cancel Netflix, would you do that, I have the heating to pay", "I ought to cancel"),
        ("that Netflix thing I want that stopped I never watch it", "I want that stopped"),
        ("don't cancel Netflix, cancel Three", "cancel Three"),
        ("I want Netflix and Three stopped", "I want Netflix and Three stopped"),
    ],
)
def test_the_part_of_a_message_that_orders_the_end(message: str, order: str) -> None:
    assert order in orders_to_end(message)


def ids(*names: str) -> list[ReadyCall]:
    return [ReadyCall("cancel_transfer", {"order_id": f"O-{name}"}) for name in names]


@pytest.mark.parametrize(
    ("message", "named", "wanted"),
    [
        ("cancel my Three direct debit", [{"Three"}], ids("Three")),
        ("end my Netflix subscription please", [{"Netflix"}], ids("Netflix")),
        ("get rid of that direct debit for me", [], ids("Three")),
        ("cancel Netflix and Three", [{"Netflix"}, {"Three"}], ids("Netflix", "Three")),
        ("cancel all my direct debits", [], ids("Direct Line", "Three")),
        ("cancel the first direct debit", [], ids("Direct Line")),
        ("cancel Tesco", [{"Tesco"}], []),
    ],
)
def test_the_payments_that_are_named_or_were_shown_are_ended(
    message: str, named: list[set[str]], wanted: list[ReadyCall]
) -> None:
    shown = [Message("when is my Three bill due", "Direct debit: Three £10.00 monthly, next 1 December 2026")]
    turns = [] if "direct debits" in message or "first" in message else shown
    assert ended(message, turns, ORDERS, named, TODAY) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("the Three one", ids("Three")),
        ("Direct Line please", ids("Direct Line")),
        ("the twelve pound one, not the big one", ids("Direct Line")),
        ("both", ids("Direct Line", "Three")),
        ("the second", ids("Three")),
        ("what do they cost", []),
    ],
)
def test_an_answer_to_the_question_which_payment_is_meant(answer: str, wanted: list[ReadyCall]) -> None:
    (question,) = ended("cancel my direct debit", [], ORDERS, [], TODAY)
    assert isinstance(question, Question)
    assert question.options == ("Direct Line", "Three")
    assert chosen(question, answer, ORDERS, TODAY) == wanted


def test_a_correction_ends_another_payment_than_the_one_that_waits() -> None:
    waited = WAITED.model_copy(update={"tool": "cancel_transfer", "arguments": {"order_id": "O-Three"}})
    assert means_another(waited, "no, I meant Netflix")
    assert not means_another(waited, "no, is Netflix dearer?")
    assert not means_another(WAITED, "no, I meant Netflix")


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("he paid for my parking as well actually so call it fifty five", {"amount_minor": 5500}),
        ("not today, do it on the 7th of December", {"date": "2026-12-07"}),
        *(("leave it, I'll send it tomorrow", {}), ("no thanks I will do it on friday myself", {})),
        *(("make it 50 but for Marek instead", {}), ("don't make it 50", {}), ("no, to Marek, and call it fifty", {})),
    ],
)
def test_a_detail_that_a_sentence_changes(message: str, changes: dict[str, Any]) -> None:
    changed = changed_inside(WAITED, message, CustomerView, TODAY)
    assert changed == (ReadyCall("transfer", {**WAITED.arguments, **changes}) if changes else None)
