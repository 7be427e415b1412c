"""Complaints get the article about complaints and the offer of a person; other messages do not."""

import pytest

from bankllm.assistant.care.complaints import OFFER, complaint_reply


@pytest.mark.parametrize(
    "message",
    [
        "I want to complain about your branch in Hove",
        "This is a disgrace, I have waited for three weeks",
        "told 3 different things by 3 different people",
        "you closed my chat halfway. again.",
        "I’m very unhappy with the way I was treated",
        "Your service is appalling.",
        "formal grievance against a member of staff",
        "YOUR APP HAS LOGGED ME OUT NINE TIMES TODAY. SORT IT",
        "I wish to register my dissatisfaction with your young man at the counter",
    ],
)
def test_complaint_gets_the_article_and_a_person(message: str) -> None:
    reply = complaint_reply(message)
    assert reply is not None
    assert reply.text.endswith(OFFER)
    assert (reply.sources, reply.lines) == (("knowledge:complaint_make",), ())


@pytest.mark.parametrize(
    "message",
    [
        *("can't complain, all good", "No complaints, thanks", "what's my balance", "I love your app"),
        *("refund from ASOS", "HOW MUCH DID I SPEND AT TESCO THIS WEEK", "can your app sort my payments by date"),
    ],
)
def test_other_messages_do_not(message: str) -> None:
    assert complaint_reply(message) is None


def test_a_question_about_the_ombudsman_gets_its_article() -> None:
    reply = complaint_reply("when can I take it to the ombudsman")
    assert reply is not None
    assert reply.sources == ("knowledge:ombudsman",)
