"""The template responder states all facts that it receives, and names their sources."""

import pytest

from bankllm.assistant.bank.knowledge import Article
from bankllm.assistant.bank.ledger import Account, Transaction
from bankllm.assistant.wording.template import Facts, TemplateResponder
from bankllm.vectors.rows import Match

EVERYDAY = Account("ACC1", "Everyday", "GBP", "GB00DEMO1", "2020-01-02", 120450)
SAVINGS = Account("ACC2", "Savings", "EUR", "GB00DEMO2", "2021-03-04", -5)
COFFEE = Transaction("ACC1", "2026-11-18", -623, "GBP", "Harbour Coffee")
SALARY = Transaction("ACC1", "2026-11-10", 210000, "GBP", "Salary")
EARLIER = Match("m1", 0.9, "My {card} is late", {"intent": "card_arrival"}, "2026-11-01T00:00:00+00:00")
ARTICLE = Article("A late card", "Please wait.")


def respond(**facts):
    return TemplateResponder().respond(Facts(message="…", **facts))


def test_balance_of_one_and_of_several_accounts():
    one = respond(intent="account_balance", accounts=(EVERYDAY,))
    assert (one.text, one.sources) == ("Your account balance is: Everyday £1,204.50.", ("ledger:ACC1",))
    two = respond(intent="account_balance", accounts=(EVERYDAY, SAVINGS))
    assert two.text == "Your account balances are: Everyday £1,204.50; Savings -€0.05."
    assert two.sources == ("ledger:ACC1", "ledger:ACC2")


def test_transactions_name_each_account_once():
    reply = respond(intent="recent_transactions", transactions=(COFFEE, SALARY))
    assert reply.text == "Your latest transactions: 2026-11-18 Harbour Coffee -£6.23; 2026-11-10 Salary £2,100.00."
    assert reply.sources == ("ledger:ACC1",)


def test_no_transactions_yet():
    reply = respond(intent="recent_transactions", accounts=(EVERYDAY,))
    assert reply.text == "There are no transactions in your accounts yet."
    assert reply.sources == ("ledger:ACC1",)


def test_account_details():
    reply = respond(intent="account_details", accounts=(EVERYDAY,))
    assert reply.text == "Your account details: Everyday, GBP, IBAN GB00DEMO1, opened 2020-01-02."


def test_article_with_and_without_an_earlier_question():
    plain = respond(intent="card_arrival", article=ARTICLE)
    assert (plain.text, plain.sources) == ("Please wait.", ("knowledge:card_arrival",))
    again = respond(intent="card_arrival", article=ARTICLE, earlier=EARLIER)
    assert again.text.startswith("Please wait. You asked about this before")
    assert again.sources == ("knowledge:card_arrival", "memory:m1")


def test_abstention_offers_the_topics_and_hands_over():
    reply = respond(intent="out_of_scope", article=ARTICLE, alternatives=("A late card", "Top-up limits"))
    assert "handing you over to a person" in reply.text
    assert "“A late card” or “Top-up limits”" in reply.text
    assert reply.sources == ()


def test_hand_over_quotes_the_earlier_message():
    reply = respond(intent="human_agent", article=ARTICLE, earlier=EARLIER)
    assert "I will pass on what you wrote before: “My {card} is late”." in reply.text
    assert reply.sources == ("knowledge:human_agent", "memory:m1")


def test_intent_without_facts_raises_value_error():
    with pytest.raises(ValueError, match="No article for intent 'card_arrival'"):
        respond(intent="card_arrival")
