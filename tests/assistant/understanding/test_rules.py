"""The encoder's head and the rules propose calls, without a language model."""

import json
from collections.abc import Sequence
from datetime import date

import numpy as np
import pytest

from bankllm.assistant.bank.tools import Call, parse_calls
from bankllm.assistant.language.language_model import needs_model
from bankllm.assistant.understanding.customer import CustomerView
from bankllm.assistant.understanding.rules import Rules
from bankllm.assistant.understanding.tool_head import HEAD, ToolHead
from bankllm.datasets import tellerchat
from bankllm.datasets.tellerchat import Understand
from bankllm.vectors.embedder import Embedder

TODAY = date(2026, 11, 29)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


def proposed(embedder: Embedder, *messages: str, names: Sequence[str] = ()) -> list[Call]:
    return Rules(ToolHead.load(), embedder.encode, TODAY, CustomerView(merchants=names)).propose(messages)


def test_one_wish(embedder: Embedder) -> None:
    assert proposed(embedder, "How much did I spend at Lidl in October?") == [
        {"tool": "spending", "merchant": "Lidl", "period": "October"}
    ]
    assert proposed(embedder, "please freeze my credit card") == [{"tool": "freeze_card", "card": "credit"}]


def test_several_wishes_are_several_calls(embedder: Embedder) -> None:
    calls = proposed(embedder, "What is my balance? And freeze my debit card.")
    assert calls == [{"tool": "balance"}, {"tool": "freeze_card", "card": "debit"}]
    calls = proposed(embedder, "How much did I spend at Costa and Nero in May?")
    assert [call.get("merchant") for call in calls] == ["Costa", "Nero"]


@pytest.mark.parametrize(
    ("message", "tools"),
    [
        ("my balance and last 2 transactions", ["balance", "transactions"]),
        ("I lost my card in Paris, what should I do and how much is on my account?", ["report_card", "balance"]),
        ("pay tom 20 and send 30 to mum", ["transfer", "transfer"]),
        ("when is my next Netflix payment", ["standing_orders"]),
        ("how much was in my savings at the end of October", ["balance"]),
        ("total for Tesco in May", ["spending"]),
        ("every payment to Tesco in May", ["transactions"]),
        ("how do I set up a standing order", ["knowledge"]),
        ("I don't recognise a payment on my statement, what now?", ["knowledge"]),
        ("what's the daily limit on my debit card?", ["card_status"]),
        ("show me my cards", ["card_status"]),
        ("what's left once the rent goes out on tuesday", ["balance", "standing_orders"]),
        ("pay dave back", ["transfer"]),
        ("send everything i have in savings to mum", ["transfer"]),
        ("Can I have it with my IBAN as well please?", ["account_details"]),
        ("transfer money to mum", ["transfer"]),
        ("balance please, and what did I spend on fuel in september", ["balance", "spending"]),
        ("my last 3 amazon payments and tell me when rent is due", ["transactions", "standing_orders"]),
        ("how much is my rent", ["standing_orders"]),
        ("what's the limit on my visa debit", ["card_status"]),
        ("how much may I spend a day with the new card", ["card_status"]),
        ("my card was refused at the till, the one ending 7663", ["card_status"]),
        ("anything pending?", ["transactions"]),
        ("transfers to savings this year", ["transactions"]),
        ("my sort code and a list of my direct debits", ["account_details", "standing_orders"]),
        ("my balance with my IBAN", ["balance", "account_details"]),
        ("How much interest has my savings account earned in 2026?", ["spending"]),
        ("books this yr", ["transactions"]),
        ("Zalando last month after the refund", ["spending"]),
        ("I took the trousers back to Next, did they ever put the money back?", []),
        ("daily limit on the travel mastercard?", ["card_status"]),
    ],
)
def test_the_tools_of_a_message(embedder: Embedder, message: str, tools: list[str]) -> None:
    assert [call["tool"] for call in proposed(embedder, message)] == tools


def test_a_few_words_that_name_a_merchant_are_about_its_payments(embedder: Embedder) -> None:
    for message in ("The dog is bankrupting me. Costa, year to date?", "I just need one number. Costa. October."):
        (call,) = proposed(embedder, message, names=("Costa",))
        assert call["tool"] == "transactions"


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ("how much did i spend on costa and pret in october", [("merchant", "costa"), ("merchant", "pret")]),
        ("money in vs money out last month", [("direction", "in"), ("direction", "out")]),
        ("am i spending more on groceries than last year", [("period", "this year"), ("period", "last year")]),
        (
            "spending between the 3rd and the 9th of this month",
            [("period", "between the 3rd and the 9th of this month")],
        ),
        ("how much did i spend at costa last mnnthx", [("period", "last mnnthx")]),
        ("costa spending on curry night", [("period", "on curry night")]),
        ("how much at costa in the joint account", [("period", None)]),
        ("costa in october. and pret in may", [("period", "october"), ("period", "may")]),
        (
            "what did i spend at costa last month and the month before",
            [("period", "last month"), ("period", "month before last month")],
        ),
        ("costa payments between 50 and 60 pounds since august", [("minimum", "50")]),
        ("pret over £5 in may", [("minimum", "£5")]),
        ("show payments of £24.99 at costa", [("minimum", "£24.99")]),
        ("show payments of about £24.99 at costa", [("minimum", None)]),
        ("Costa in october? I was away in may", [("period", "october")]),
        ("am i spending more at costa this month than last", [("period", "this month"), ("period", "last month")]),
        ("costa vs sainsburys in may", [("merchant", "costa"), ("merchant", "sainsburys")]),
    ],
)
def test_what_a_sum_is_about(embedder: Embedder, message: str, wanted: list[tuple[str, str | None]]) -> None:
    calls = proposed(embedder, message, names=("Costa", "Pret A Manger"))
    assert [(name, call.get(name)) for call, (name, _) in zip(calls, wanted, strict=True)] == wanted


@pytest.mark.parametrize(
    ("messages", "call"),
    [
        (["what do I spend on groceries a month on average"], {"per": "month", "category": "groceries"}),
        (["how often do I go to costa"], {"per": "month", "merchant": "costa"}),
        (["average transaction at Costa"], {"per": "payment", "merchant": "Costa"}),
        (["groceries a month on average", "and at Costa?", "and petrol"], {"per": "month", "category": "petrol"}),
        (["which shop did I spend most at in May"], {"by": "shop", "period": "May"}),
        (["my top 4 merchants this year"], {"by": "merchant", "limit": "4", "period": "this year"}),
        (["all spending except rent in May"], {"without": "rent", "period": "May"}),
        (["all spending except rent in May", "and in June?"], {"without": "rent", "period": "June"}),
        (["groceries in May but not Netflix"], {"without": "Netflix", "category": "groceries", "period": "May"}),
        (["all spending except Costa in May", "how much was Costa?"], {"merchant": "Costa", "period": "May"}),
    ],
)
def test_averages_rankings_and_what_is_left_out(embedder: Embedder, messages: list[str], call: dict[str, str]) -> None:
    assert proposed(embedder, *messages, names=("Costa", "Netflix")) == [{"tool": "spending", **call}]


def test_an_order_is_read_as_it_was_written(embedder: Embedder) -> None:
    (call,) = proposed(embedder, "what I want: send £20 to mum every month")
    assert call["tool"] == "transfer"
    assert "per" not in call


@pytest.mark.parametrize(
    ("messages", "tool"),
    [
        (["what is my overdraft limit"], "balance"),
        (["how much of my overdraft am I using"], "balance"),
        (["do I have an overdraft"], "balance"),
        (["how do overdrafts work"], "knowledge"),
        (["how much does an overdraft cost"], "knowledge"),
        (["what is my daily limit"], "card_status"),
        (["which of my subscriptions is the most expensive"], "standing_orders"),
        (["how can i set up a standing order", "what do i have already"], "standing_orders"),
        (["unfreeze my card", "oh ok so it works?"], "card_status"),
    ],
)
def test_what_the_accounts_and_cards_have(embedder: Embedder, messages: list[str], tool: str) -> None:
    assert [call["tool"] for call in proposed(embedder, *messages)] == [tool]


def test_the_probabilities_of_a_message_are_computed_once() -> None:
    passes: list[list[str]] = []

    def embed(texts: list[str]) -> np.ndarray:
        passes.append(texts)
        return np.full((len(texts), 384), 384**-0.5, np.float32)

    rules = Rules(ToolHead.load(), embed, TODAY)
    needs_model(["thanks, what is my balance"], rules, rules.propose(["thanks, what is my balance"]))
    assert len(passes) == 1


def test_an_amount_of_two_payees_is_left_out(embedder: Embedder) -> None:
    assert all("amount" not in call for call in proposed(embedder, "send mum and dad 20 or 30"))


def test_what_the_last_message_says_replaces_what_was_said_before(embedder: Embedder) -> None:
    calls = proposed(embedder, "list everything over £100 in October", "now under £5")
    assert calls == [{"tool": "transactions", "period": "October", "maximum": "£5"}]
    calls = proposed(embedder, "is it raining tomorrow", "how much did I spend at Costa in May")
    assert calls == [{"tool": "spending", "merchant": "Costa", "period": "May"}]


def test_a_follow_up_takes_what_it_lacks_from_before(embedder: Embedder) -> None:
    calls = proposed(embedder, "how much did i spend at costa in may", "and june?")
    assert calls == [{"tool": "spending", "merchant": "costa", "period": "june"}]
    (call,) = proposed(embedder, "costa spending from 1 to 15 september", "and from the 16th to the 30th")
    assert call["period"] == "from the 16th to the 30th of september"
    (call,) = proposed(embedder, "how much interest did my savings earn in October", "and in total over 2026")
    assert call["period"] == "2026"
    assert [call["tool"] for call in proposed(embedder, "when is rent due", "how much is it")] == ["standing_orders"]


@pytest.mark.parametrize(
    "message", ["yes", "No thanks.", "never mind", "forget it", "ok, go ahead", "😀", "the cat sat on the mat"]
)
def test_nothing_is_proposed_without_a_wish(embedder: Embedder, message: str) -> None:
    assert proposed(embedder, "send 50 to mum", message) == []


def test_calls_are_valid_and_copied(embedder: Embedder) -> None:
    rules = Rules(ToolHead.load(), embedder.encode, TODAY)
    for example in tellerchat.load(Understand, "train")[::40]:
        calls = rules.propose(example.messages)
        assert parse_calls(json.dumps(calls), example.messages) == (tuple(calls), ())


def test_forty_wishes_are_at_most_five_calls(embedder: Embedder) -> None:
    message = " and ".join(f"send {number} to {name}" for number in range(1, 21) for name in ("Raj", "Ngozi"))
    assert len(proposed(embedder, message)) <= 5


def test_the_packaged_head_is_small_and_names_its_data() -> None:
    assert HEAD.stat().st_size <= 200_000
    assert set(ToolHead.load().linear.metadata) == {"labels", "ordinary", "data_sha256", "encoder"}
