"""Rules copy the arguments of a known tool from a message."""

import json
import re
from datetime import date

import pytest

from bankllm.assistant.bank.tools import parse_calls
from bankllm.assistant.understanding.rules import Rules
from bankllm.assistant.understanding.slots import Slots
from bankllm.assistant.understanding.tool_head import ToolHead
from bankllm.datasets import tellerchat
from bankllm.datasets.tellerchat import Understand
from bankllm.vectors.embedder import Embedder

TODAY = date(2026, 11, 29)
ORDINARY = ToolHead.load().ordinary


@pytest.mark.parametrize(
    ("tool", "message", "expected"),
    [
        ("spending", "How much did I spend at Tesco in October?", {"merchant": ["Tesco"], "period": ["October"]}),
        ("spending", "groceries since the 1st pls", {"category": ["groceries"], "period": ["since the 1st"]}),
        ("spending", "uber since I moved out?", {"merchant": ["uber"], "period": ["since I moved out"]}),
        ("spending", "May I know what I paid Café Zoë last week", {"merchant": ["Café Zoë"], "period": ["last week"]}),
        (
            "spending",
            "was it Netflix or Spotify this year",
            {"merchant": ["Netflix", "Spotify"], "period": ["this year"]},
        ),
        ("transactions", "whats sittin pending this week", {"period": ["this week"]}),
        ("spending", "Tesco in May or Tesco in June", {"merchant": ["Tesco"], "period": ["May", "June"]}),
        ("spending", "since payday how much on eating out", {"category": ["eating out"], "period": ["since payday"]}),
        (
            "spending",
            "council tax over three months so sept to november",
            {"category": ["council tax"], "period": ["sept to november"]},
        ),
        ("spending", "what did I earn from Upwork", {"merchant": ["Upwork"], "direction": ["in"]}),
        ("transactions", "aldi >50 quid", {"merchant": ["aldi"], "minimum": ["50 quid"]}),
        (
            "spending",
            "petrol since the clocks went back (25 oct)",
            {"category": ["petrol"], "period": ["since the clocks went back (25 oct)"]},
        ),
        (
            "spending",
            "How much on petrol since Easter of this year? Easter Sunday fell on the 5th of April.",
            {"category": ["petrol"], "period": ["since Easter of this year"]},
        ),
        ("spending", "salray in october", {"category": ["salray"], "period": ["october"]}),
        ("spending", "jsut september", {"period": ["september"]}),
        ("transactions", "WHAT WENT OUT ON THE 28TH", {"period": ["28TH"]}),
        ("spending", "petrol on the 31st of February", {"category": ["petrol"], "period": ["31st of February"]}),
        (
            "transactions",
            "my last five payments over £20",
            {"limit": ["five"], "order": ["newest"], "minimum": ["£20"]},
        ),
        (
            "transactions",
            "Aldi, between 10 and 20 euros",
            {"merchant": ["Aldi"], "minimum": ["10"], "maximum": ["20 euros"]},
        ),
        (
            "transfer",
            "send £50 to Aoife O’Brien tomorrow",
            {"amount": ["£50"], "to": ["Aoife O’Brien"], "date": ["tomorrow"]},
        ),
        (
            "transfer",
            'pay Raj 20, no wait, 30, put "rent" on it',
            {"amount": ["30"], "to": ["Raj"], "reference": ["rent"]},
        ),
        ("transfer", "move 2k from savings to joint", {"amount": ["2k"], "from": ["savings"], "to": ["joint"]}),
        ("balance", "what is in my holiday pot", {"account": ["holiday pot"]}),
        ("freeze_card", "block the card ending 4471", {"card": ["4471"]}),
        ("report_card", "it's not lost, someone nicked it", {"kind": ["stolen"]}),
        ("knowledge", "Hi, can you tell me what a fee abroad is? Thanks", {"question": ["what a fee abroad is"]}),
        ("human_agent", "a person please, about my late wife's pension.", {"reason": ["my late wife's pension"]}),
    ],
)
def test_arguments_are_copied(tool: str, message: str, expected: dict[str, list[str]]) -> None:
    found = {name: values for name, values in Slots(message, ORDINARY, TODAY).read(tool).items() if values}
    assert found == expected


def test_a_customers_own_names_are_found_in_any_spelling() -> None:
    names = ("Next", "Priyanka Deshmukh")
    assert Slots("how much at next", ORDINARY, TODAY, names).read("spending")["merchant"] == ["next"]
    assert Slots("10 to priyanca deshmukh", ORDINARY, TODAY, names).read("transfer")["to"] == ["priyanca deshmukh"]


def test_an_ordinary_word_is_a_name_only_where_a_name_can_be() -> None:
    names = ("Three", "Costa", "Marks & Spencer", "EDF", "E.ON")
    assert Slots("my last three payments", ORDINARY, TODAY, names).read("transactions")["merchant"] == []
    assert Slots("what I paid to three", ORDINARY, TODAY, names).read("spending")["merchant"] == ["three"]
    assert Slots("what did it cost", ORDINARY, TODAY, names).read("spending")["merchant"] == []
    assert Slots("at marks and spencer", ORDINARY, TODAY, names).read("spending")["merchant"] == ["marks and spencer"]
    assert Slots("EDF and E.ON, just tell me E.ON", ORDINARY, TODAY, names).read("spending")["merchant"] == ["E.ON"]


def test_one_ordinary_word_is_no_part_of_a_name() -> None:
    names = ("Whole Foods", "Gap")
    assert Slots("for the whole year I mean", ORDINARY, TODAY, names).read("spending")["merchant"] == []


def test_every_value_is_a_piece_of_the_message() -> None:
    rules = Rules(ToolHead.load(), Embedder().encode, TODAY)
    for example in tellerchat.load(Understand, "train")[::5]:
        for call in example.calls:
            calls = rules.read(call["tool"], example.messages)
            composed = re.compile(" before | of ")  # "month before last month", "the 16th of September"
            calls = [one for one in calls if not composed.search(one.get("period", ""))]
            assert parse_calls(json.dumps(calls[:5]), example.messages).dropped == ()


@pytest.mark.parametrize(
    ("message", "periods", "context"),
    [
        ("at Next last christmas: between 1 December and Boxing Day", ["between 1 December and Boxing Day"], 1),
        ("in 2025, from 1 to 5 June, at Tesco", ["from 1 to 5 June"], 1),
        ("at Tesco in May, June", ["May", "June"], 0),
        ("I'm after coming back in October, what did I spend", ["October"], 0),
    ],
)
def test_a_period_that_another_one_makes_precise_is_context(message: str, periods: list[str], context: int) -> None:
    slots = Slots(message, ORDINARY, TODAY)
    assert [one.removeprefix("in ") for one in slots.periods()] == periods
    assert len(slots.context) == context
