"""A message in another language gets the line in that language; an English one never does."""

import json
from pathlib import Path

import pytest

from bankllm.assistant.care.languages import language_reply, lines
from bankllm.assistant.understanding.tool_head import ToolHead
from bankllm.datasets import tellerchat
from bankllm.datasets.tellerchat import Understand

RANKS = ToolHead.load().ordinary
MESSAGES = Path(__file__).parents[3] / "benchmarks" / "data" / "other_languages.jsonl"


def test_most_messages_get_the_line_in_their_language_and_none_in_another() -> None:
    rows = [json.loads(line) for line in MESSAGES.read_text("utf-8").splitlines()]
    replies = [(lines()[row["language"]], language_reply(row["text"], RANKS)) for row in rows]
    assert len({row["language"] for row in rows}) >= 10
    assert {reply for right, reply in replies if reply != right} <= {None}
    assert sum(reply == right for right, reply in replies) >= 0.93 * len(rows)


def test_english_messages_get_none() -> None:
    messages = [example.messages[-1] for example in tellerchat.load(Understand, "test")]
    assert sum(language_reply(message, RANKS) is not None for message in messages) <= 0.002 * len(messages)


@pytest.mark.parametrize(
    "message", ["", "saldo", "Agnieszka", "ok", "👍", "£50", "IBAN?", "pls", "hi m8", "12345 67890"]
)
def test_a_name_a_number_or_one_word_is_never_another_language(message: str) -> None:
    assert language_reply(message, RANKS) is None


@pytest.mark.parametrize(
    ("message", "language"),
    [
        *(("congela mi tarjeta", "es"), ("bloquea mi tarjeta por favor", "es"), ("cancela mi tarjeta", "es")),
        *(("he perdido mi tarjeta", "es"), ("quiero ver mi saldo", "es")),
        *(("sperre meine Karte", "de"), ("bloqueia o meu cartão", "pt"), ("blocca la mia carta", "it")),
        *(("blokuj moja karta", "pl"), ("blokkeer mijn pas", "nl")),
    ],
)
def test_a_short_order_in_another_language_gets_the_line(message: str, language: str) -> None:
    assert language_reply(message, RANKS) == lines()[language]


def test_the_customers_own_names_are_no_other_language() -> None:
    assert language_reply("Zofia Kowalska Marek", RANKS, ["Zofia Kowalska", "Marek Nowak"]) is None


def test_every_line_tells_how_to_reach_a_person() -> None:
    assert all("“person”" in line for line in lines().values())
