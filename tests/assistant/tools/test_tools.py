"""Each tool states all facts that it found, in text and as lines, and names their sources."""

from typing import Any

import pytest

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.bank.ledger import LATEST, Account, Transaction, TransactionQuery
from bankllm.assistant.decision import SMALL_TALK
from bankllm.assistant.facts import TOOLS, Facts, ReadyCall, Request, tool_of
from bankllm.datasets.teller77 import ASSISTANT_INTENTS, banking77_labels
from bankllm.vectors.rows import Match

EVERYDAY = Account("ACC1", "Everyday", "GBP", "GB00DEMO1", "2020-01-02", 120450)
SAVINGS = Account("ACC2", "Savings", "EUR", "GB00DEMO2", "2021-03-04", -5)
COFFEE = Transaction("ACC1", "2026-11-18", -623, "GBP", "Harbour Coffee")
SALARY = Transaction("ACC1", "2026-11-10", 210000, "GBP", "Salary")
EARLIER = Match("m1", 0.9, "My {card} is late", {"intent": "card_arrival"}, "2026-11-01T00:00:00+00:00")
LATE = load_knowledge()["card_arrival"].answer


class FewAccounts:
    """A bank with fixed rows, and only for CUST001."""

    def __init__(self, *rows: Account | Transaction) -> None:
        self.rows = rows

    def accounts(self, customer_id: str) -> tuple[Account, ...]:
        assert customer_id == "CUST001"
        return tuple(row for row in self.rows if isinstance(row, Account))

    def transactions(self, customer_id: str, query: TransactionQuery = LATEST) -> tuple[Transaction, ...]:
        assert customer_id == "CUST001"
        return tuple(row for row in self.rows if isinstance(row, Transaction))[: query.limit]


def look_up(intent: str, *rows: Account | Transaction, message: str = "…", earlier: Match | None = None) -> Facts:
    bank: Any = FewAccounts(*rows)
    call = ReadyCall(tool_of(intent), {"article": intent})
    return TOOLS.get(call.tool)(Request(message, "CUST001", call, intent, earlier), bank)


def test_every_intent_of_the_assistant_has_a_tool() -> None:
    articles = {intent for intent in (*banking77_labels(), *ASSISTANT_INTENTS) if tool_of(intent) == "knowledge"}
    assert articles == {*banking77_labels(), "out_of_scope"}
    assert articles <= load_knowledge().keys()
    assert set(ASSISTANT_INTENTS) > SMALL_TALK


@pytest.mark.parametrize(
    ("intent", "rows", "text", "lines"),
    [
        (
            "account_balance",
            [EVERYDAY],
            "Your account balance is: Everyday £1,204.50.",
            "The customer has 1 account.\nEveryday: balance £1,204.50",
        ),
        (
            "account_balance",
            [EVERYDAY, SAVINGS],
            "Your account balances are: Everyday £1,204.50; Savings -€0.05.",
            "The customer has 2 accounts.\nEveryday: balance £1,204.50\nSavings: balance -€0.05",
        ),
        (
            "account_details",
            [EVERYDAY],
            "Your account details: Everyday, GBP, IBAN GB00DEMO1, opened 2020-01-02.",
            "The customer has 1 account.\nEveryday: currency GBP, IBAN GB00DEMO1, opened 2020-01-02",
        ),
        (
            "recent_transactions",
            [EVERYDAY, COFFEE, SALARY],
            "Your latest transactions: 2026-11-18 Harbour Coffee -£6.23; 2026-11-10 Salary £2,100.00.",
            "The customer has 2 latest transactions.\n2026-11-18: Harbour Coffee, -£6.23 (£6.23 paid out)\n"
            "2026-11-10: Salary, £2,100.00 (£2,100.00 paid in)",
        ),
        (
            "recent_transactions",
            [EVERYDAY],
            "There are no transactions in your accounts yet.",
            "The customer has 0 latest transactions.",
        ),
    ],
)
def test_ledger_tools(intent: str, rows: list[Account | Transaction], text: str, lines: str) -> None:
    found = look_up(intent, *rows)
    assert (found.text, "\n".join(found.lines)) == (text, lines)
    assert found.sources == (("ledger:ACC1", "ledger:ACC2") if SAVINGS in rows else ("ledger:ACC1",))
    assert found.private == (("GB00DEMO1",) if intent == "account_details" else ())


def test_a_message_is_answered_with_what_it_asks_for_and_an_earlier_one_is_named() -> None:
    assert "Salary" not in look_up("recent_transactions", COFFEE, SALARY, message="my last transaction").text
    plain = look_up("card_arrival")
    assert (plain.text, plain.sources) == (LATE, ("knowledge:card_arrival",))
    again = look_up("card_arrival", earlier=EARLIER)
    assert again.text.startswith(f"{LATE} You asked about this before")
    assert again.sources == ("knowledge:card_arrival", "memory:m1")
    assert again.lines == plain.lines, "the customer's own words are no facts"
    found = look_up("human_agent", earlier=EARLIER)
    assert found.text.endswith("I will pass on what you wrote before: “My {card} is late”.")
    assert found.sources == ("knowledge:human_agent", "memory:m1")
