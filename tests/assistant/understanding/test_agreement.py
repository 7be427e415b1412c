"""The calls of a language model, checked against what rules read in the same message."""

from collections.abc import Sequence
from datetime import date

import pytest

from bankllm.assistant.bank.tools import Call
from bankllm.assistant.understanding.agreement import agreed
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.rules import Rules
from bankllm.assistant.understanding.tool_head import ToolHead
from bankllm.vectors.embedder import Embedder


@pytest.fixture(scope="module")
def rules(customer: CustomerView, today: date) -> Rules:
    return Rules(ToolHead.load(), Embedder().encode, today, customer)


def checked(rules: Rules, message: str, *calls: Call, confidence: float = 0.9) -> Sequence[Call] | None:
    return agreed(calls, confidence, [message], rules, rules.propose([message]))


@pytest.mark.parametrize(
    ("message", "said", "right"),
    [
        ("Amount spent at Tesco since we moved in, 14/08", {"period": "14/08"}, {"period": "since we moved in, 14/08"}),
        ("what went out of the joint account to Tesco in May", {"period": "May"}, {"account": "joint"}),
        ("Tesco spend in the weekend of 21 November", {"period": "21 November"}, {"period": "weekend of 21 November"}),
        ("how much at marks and spencer in May", {"merchant": "marks"}, {"merchant": "marks and spencer"}),
        ("council tax this year", {"category": "council tax", "direction": "in"}, {"category": "council tax"}),
        ("wages in May", {"category": "wages", "direction": "in"}, {"category": "wages", "direction": "in"}),
    ],
)
def test_a_call_gets_what_the_message_says_besides(
    rules: Rules, message: str, said: dict[str, str], right: dict[str, str]
) -> None:
    (call,) = checked(rules, message, {"tool": "spending", **said}) or [{}]
    assert call.items() >= right.items()
    assert call.get("direction") == right.get("direction")


def test_the_rules_answer_where_the_model_lost_a_wish_or_a_day(rules: Rules) -> None:
    assert checked(rules, "my balance, and freeze my debit card", {"tool": "balance"}) is None
    assert checked(rules, "When's the next Tesco payment?", {"tool": "transactions", "merchant": "Tesco"}) is None
    assert checked(rules, "what's coming out next week", confidence=0.6) is None
    assert checked(rules, "how much?", {"tool": "balance"}) is None
    calls = checked(rules, "Tesco in May and in June", {"tool": "spending", "merchant": "Tesco", "period": "May"}) or []
    assert [call["period"] for call in calls] == ["May", "June"]


def test_the_rules_answer_about_own_data_where_the_model_found_an_article_or_left_a_restriction(rules: Rules) -> None:
    both = [{"tool": "balance", "account": "own one"}, {"tool": "balance", "account": "joint"}]
    assert checked(rules, "whats in my own one, leave the joint out of it", *both) is None
    article = {"tool": "knowledge", "question": "How much do I pay Octopus Energy each month"}
    assert checked(rules, "How much do I pay Octopus Energy each month?", article) is None
    calls = checked(rules, "Tesco or Greggs since August", {"tool": "spending", "merchant": "Tesco"}) or []
    assert [call["merchant"] for call in calls] == ["Tesco", "Greggs"]


def test_what_the_model_read_surely_stays(rules: Rules) -> None:
    call = {"tool": "spending", "merchant": "Tesco", "period": "since the summer holidays"}
    message = "how much at Tesco since my birthday no scratch that since the summer holidays"
    assert checked(rules, message, call) == [call]
    assert checked(rules, "can you write my essay about balance", confidence=1) == ()
    order = {"tool": "transfer", "amount": "£50", "to": "Mum"}
    assert checked(rules, "£50 to Mum", order) == (order,)


def test_a_model_cancels_no_transfer_without_a_word_for_it(rules: Rules) -> None:
    assert checked(rules, "pay dave back", {"tool": "cancel_transfer"}, confidence=0.99) is None
    assert checked(rules, "call off the transfer", {"tool": "cancel_transfer"}) == ({"tool": "cancel_transfer"},)
