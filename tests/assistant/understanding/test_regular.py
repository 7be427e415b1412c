"""What a payment costs each month: the calls that rules propose, and the reply from standing orders and debits."""

from datetime import date

import pytest

from bankllm.assistant.bank.ledger import Bank, open_bank
from bankllm.assistant.facts import TOOLS, ReadyCall, Request
from bankllm.assistant.tools.together import together
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.resolve import resolve
from bankllm.assistant.understanding.rules import Rules
from bankllm.assistant.understanding.tool_head import ToolHead
from bankllm.vectors.embedder import Embedder

TODAY = date(2026, 11, 29)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return open_bank("demo:")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def replies(bank: Bank, embedder: Embedder, customer: str, *messages: str) -> list[str]:
    """Texts of the tool `standing_orders`, and of their sum; other calls are left out."""
    view = CustomerView.of(bank, customer)
    calls = Rules(ToolHead.load(), embedder.encode, TODAY, view).propose(messages)
    parts = []
    for call in resolve(calls, view, TODAY, messages[-1]):
        if isinstance(call, ReadyCall) and call.tool == "standing_orders":
            request = Request(messages[-1], customer, call)
            parts.append((request, TOOLS.get(call.tool)(request, bank)))
    total = together(parts)
    return [facts.text for _, facts in parts] + ([total.text] if total else [])


@pytest.mark.parametrize(
    ("customer", "messages", "words"),
    [
        ("CUST003", ["how much is the nursery each month"], ["£520.00 each month", "by direct debit", "2026"]),
        ("CUST005", ["Rent?"], ["£1,085.00 each month", "Peabody Homes"]),
        ("CUST002", ["Phone bill amount?"], ["€29.90 each month"]),
        ("CUST004", ["what's my car insurance"], ["£44.00 each month on insurance", "Direct Line"]),
        ("CUST011", ["whats the mortgage"], ["£980.00 each month", "Skipton Mortgages"]),
        ("CUST012", ["what do I chip in to the joint a/c monthly"], ["£820.00 each month to your Joint account"]),
        ("CUST009", ["how much do I save per month automatically"], ["$450.00 each month to your Savings account"]),
        ("CUST007", ["How much is the Aviva each month?", "And Vodafone?"], ["€18.90 each month to Vodafone"]),
        ("CUST010", ["sky n octopus, total per month for both"], ["£39.00", "£86.00", "Together that is £125.00 each"]),
        ("CUST008", ["how much is the state pension each month"], ["no standing order", "£958.20 received in Nov"]),
    ],
)
def test_a_monthly_amount(bank: Bank, embedder: Embedder, customer: str, messages: list[str], words: list[str]) -> None:
    text = " ".join(replies(bank, embedder, customer, *messages))
    assert [one for one in words if one not in text] == []


@pytest.mark.parametrize(
    "message",
    [
        "how do I pay the nursery each month",
        "what is the monthly fee for Everyday Plus",
        "what is my balance",
        "send 50 to Leeds City Council every month",
        "ok send Leeds City Council £54 every month then",
        "how much did I pay the nursery in October",
    ],
)
def test_other_questions_are_no_monthly_amount(bank: Bank, embedder: Embedder, message: str) -> None:
    assert replies(bank, embedder, "CUST003", message) == []
