"""Follow-up messages: the rules, and conversations with the packaged assistant."""

import uuid

import pytest

from bankllm.assistant.bank.ledger import format_money, open_bank
from bankllm.assistant.followups import MAX_TRANSACTIONS, is_follow_up, wanted_count
from tests.support.live_server import CHAT, customer, guarded, logged

BALANCE, THREE = "What is my account balance?", "and the last three transactions?"


@pytest.mark.parametrize(
    "message",
    [
        *("and the last three transactions?", "And yesterday?", "also my IBAN", "what about my savings?"),
        *("How about the other account", "same for the card", "then cancel it", "plus the fees", "… and then?"),
    ],
)
def test_message_is_a_continuation(message):
    assert is_follow_up(message)


@pytest.mark.parametrize(
    "message",
    [
        *("", "What is my balance and my IBAN?", "android pay does not work", "samesies", "Thence", "surplus money"),
        *("Please show the last three transactions", "What is about to be charged?", "I also need a card"),
    ],
)
def test_message_is_not_a_continuation(message):
    assert not is_follow_up(message)


@pytest.mark.parametrize(
    ("message", "count"),
    [
        ("and the last three transactions?", 3),
        ("my last 7 payments", 7),
        ("THE TWO MOST RECENT BOOKINGS", 2),
        ("ten latest purchases please", 10),
        ("show 12 transactions", 12),
        ("my last transaction", 1),
        ("what was the most recent payment", 1),
        ("1 movement", 1),
        ("my last 999 transactions", MAX_TRANSACTIONS),
        ("the last 0 transactions", 1),
        ("my transactions", 5),
        ("the last twelve hundred transactions", 5),
        ("payments since 2026", 5),
        ("a card ending in 1234 5 days ago", 5),
        ("my last 1000000 transactions", 5),
    ],
)
def test_wanted_count(message, count):
    assert wanted_count(message, 5) == count


@pytest.mark.timeout(20)  # a regular expression with exponential backtracking would not finish
@pytest.mark.parametrize("message", ["last " * 400, "1" * 2000, "and " * 500, "\n" * 2000, "(" * 2000, " ,;-" * 500])
def test_long_messages_are_processed_quickly(message):
    assert wanted_count(message, 5) == 5
    assert is_follow_up(message) == message.startswith("and")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("followups")
    with guarded(folder) as running:
        yield running
    assert logged(folder / "server.log", "ERROR") == []


@pytest.fixture
def talk(server):
    """A function that sends a message in a conversation (None: without one) and returns the reply."""

    def say(message, conversation_id, who="CUST001"):
        with customer(server, who) as client:
            body = {"message": message, "customer_id": who, "conversation_id": conversation_id}
            response = client.post(CHAT, json=body)
        assert response.status_code == 200
        return response.json()

    return say


def lines_of(who, count):
    booked = open_bank().transactions(who, count)
    return [f"{t.booked} {t.description} {format_money(t.amount_minor, t.currency)}" for t in booked]


def test_transactions_after_a_balance(talk):
    conversation = uuid.uuid4().hex
    assert talk(BALANCE, conversation)["intent"] == "account_balance"
    reply = talk(THREE, conversation)
    assert (reply["intent"], reply["conversation_id"]) == ("recent_transactions", conversation)
    listed = reply["reply"].removeprefix("Your latest transactions: ").removesuffix(".").split("; ")
    assert listed == lines_of("CUST001", 3)


def test_vague_message_is_understood_from_its_conversation(talk):
    conversation, vague = uuid.uuid4().hex, "what about my savings?"
    alone = talk(vague, None)
    assert alone["intent"] == "out_of_scope"
    talk("show me my last transactions", conversation)
    in_context = talk(vague, conversation)
    assert in_context["intent"] == "recent_transactions"
    assert in_context["confidence"] > alone["confidence"]


def test_no_context_without_a_conversation_id(talk):
    vague = "what about my savings?"
    before = talk(vague, None)
    talk("show me my last transactions", None)
    after = talk(vague, None)
    assert (after["intent"], after["confidence"]) == (before["intent"], before["confidence"])
    assert after["conversation_id"] != before["conversation_id"]


def test_no_context_from_another_conversation(talk):
    talk("show me my last transactions", uuid.uuid4().hex)
    assert talk("what about my savings?", uuid.uuid4().hex)["intent"] == "out_of_scope"


def test_no_context_from_another_customer(talk, server):
    foreign_conversation, vague = uuid.uuid4().hex, "what about my savings?"
    alone = talk(vague, None, "CUST002")
    talk("show me my last transactions", foreign_conversation, "CUST001")
    reply = talk(vague, foreign_conversation, "CUST002")
    assert (reply["intent"], reply["confidence"]) == (alone["intent"], alone["confidence"])
    three = talk(THREE, foreign_conversation, "CUST002")
    assert all(line in three["reply"] for line in lines_of("CUST002", 3))
    assert not any(line in three["reply"] for line in lines_of("CUST001", 3))
    with customer(server, "CUST002") as client:
        kept = client.get("/api/v1/customers/CUST002/memory").json()["messages"]
    assert [turn["user_message"] for turn in kept if turn["conversation_id"] == foreign_conversation] == [vague, THREE]
