"""Which messages end a regular payment, and which changed details of a waiting transfer are taken."""

from datetime import date
from typing import Any

import pytest

from bankllm.assistant.actions.stored import Proposal
from bankllm.assistant.bank.ledger import StandingOrder
from bankllm.assistant.facts import ReadyCall
from bankllm.assistant.regular_orders import ended, orders_to_end
from bankllm.assistant.understanding.readers import CustomerView
from bankllm.assistant.while_waiting import changed_inside
from bankllm.vectors.namespaces import Message

TODAY = date(2026, 11, 29)
ORDERS = [
    StandingOrder(f"O-{name}", "A", kind, name, 1000, "GBP", 1, "2026-12-01")
    for name, kind in (("Direct Line", "direct_debit"), ("Three", "direct_debit"), ("Netflix", "subscription"))
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
        *("did you stop my Three direct debit", "what do I pay at the end of the month"),
    ],
)
def test_a_message_that_orders_no_end(message: str) -> None:
    assert not orders_to_end(message, [])


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("cancel my Three direct debit", "Three"),
        ("end my Netflix subscription please", "Netflix"),
        ("get rid of that direct debit for me", "Three"),
    ],
)
def test_the_payment_that_is_named_or_was_shown_is_ended(message: str, name: str) -> None:
    shown = Message("when is my Three bill due", "Direct debit: Three £10.00 monthly, next 1 December 2026")
    assert orders_to_end(message, [shown])
    assert ended(message, [shown], ORDERS) == ReadyCall("cancel_transfer", {"order_id": f"O-{name}"})


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
