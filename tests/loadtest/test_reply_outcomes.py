"""A streamed reply is read as it arrives, and the columns that a reply gives a row."""

import json
from typing import Any

import pytest

from bankllm.loadtest.reply_outcomes import LedgerQuestion, StreamedReply, carries_content, reply_columns
from tests.support.loadtest_app import REPLY


def event(kind: str, **data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def read(*pieces: str, reply: str) -> StreamedReply:
    """Read one piece per second, then the reply."""
    streamed = StreamedReply()
    events = [event("token", text=piece) for piece in pieces] + [event("reply", **REPLY, reply=reply)]
    for at_s, each in enumerate(events, start=1):
        streamed.read(each, at_s)
    return streamed


def test_the_first_word_with_content_is_not_the_first_piece() -> None:
    streamed = read("Sure", ", let ", "me check. ", "You sp", "ent", " £5.", reply="Sure, let me check. You spent £5.")
    assert streamed.first_content_s == 6  # when the word is complete
    assert [at_s for _, at_s in streamed.pieces] == [1, 2, 3, 4, 5, 6]
    assert streamed.error == ""


def test_a_reply_that_replaces_the_pieces_came_as_a_whole() -> None:
    streamed = read("You spent ", "£7.00", reply="You spent £5.00.")
    assert streamed.pieces == [("You spent £5.00.", 3)]
    assert streamed.first_content_s == 3


def test_a_reply_without_content_counts_when_it_is_complete() -> None:
    assert read("Thank you", reply="Thank you").first_content_s == 2


def test_a_stream_without_a_reply_is_an_error() -> None:
    streamed = StreamedReply()
    streamed.read(event("token", text="You"), 1)
    assert streamed.error == "the stream ended without a reply"
    streamed.read(event("error", status=500), 2)
    assert (streamed.error, streamed.reply) == ("event: error 500", None)


@pytest.mark.parametrize(
    ("text", "carries"),
    [
        ("I’ll check", False),
        ("Your ", False),
        ("Your balance", False),  # the word may continue
        ("Your balance ", True),
        ("“Sure” – ", False),
        ("It is £1,204.50 ", True),
    ],
)
def test_a_complete_word_that_is_no_filler_carries_content(text: str, carries: bool) -> None:
    assert carries_content(text) is carries


def test_the_columns_of_a_reply() -> None:
    question = LedgerQuestion("CUST001", "total at Tesco", ["£5.00"])
    assert reply_columns(question, REPLY | {"reply": "£5.00"}) == {
        "asked": "question",
        "answer": "right",
        "served_by": "model",
        "fallback": "",
        "degraded": "no",
    }
    by_rules = {"responder": "template", "understanding_fallback": "unsure", "fallback": "busy", "reply": "Hello."}
    assert reply_columns(None, REPLY | by_rules) == {
        "asked": "text",
        "answer": "",
        "served_by": "rules",
        "fallback": "busy",
        "degraded": "yes",
    }
    assert reply_columns(None, REPLY | {"fallback": "abstained", "reply": "Hello."})["fallback"] == ""
    assert reply_columns(None, REPLY | {"fallback": "not grounded", "reply": "Hello."})["degraded"] == "no"
    assert reply_columns(question, None) == {"asked": "question", "answer": "none"}
