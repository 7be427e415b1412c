"""The knowledge articles: short, distinct, dated, and with three ways in which customers ask for each."""

import re
from datetime import date

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.datasets.teller77 import intent_definitions

SMALL_TALK = {"greeting", "goodbye", "human_agent", "out_of_scope"}


def test_articles_are_short_and_distinct() -> None:
    articles = load_knowledge()
    for id_, article in articles.items():
        assert 2 <= len(re.findall(r"[.!?](?=\s|$)", article.answer)) <= 6, id_
        assert len(article.answer.split()) <= 95, id_
        assert 3 <= len(article.title) <= 60, id_
    assert len({a.title for a in articles.values()}) == len({a.answer for a in articles.values()}) == len(articles)


def test_an_article_that_answers_an_intent_names_no_amount() -> None:
    for intent in load_knowledge().keys() & intent_definitions().keys():
        answer = load_knowledge()[intent].answer
        assert not re.search(r"[£$€%]", answer), f"{intent}: fees and amounts depend on the price list"


def test_each_article_is_dated_and_is_asked_for_in_three_ways() -> None:
    articles = {id_: article for id_, article in load_knowledge().items() if id_ not in SMALL_TALK}
    assert len(articles) == 321
    for id_, article in articles.items():
        assert date(2026, 3, 1) <= date.fromisoformat(article.updated) <= date(2026, 11, 20), id_
        assert len(set(article.asked)) == 3, id_
    asked = [text.lower() for article in articles.values() for text in article.asked]
    assert len(set(asked)) == len(asked)
