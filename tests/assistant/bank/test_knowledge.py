"""The knowledge articles: short, distinct, and without amounts."""

import re

from bankllm.assistant.bank.knowledge import load_knowledge


def test_articles_are_short_distinct_and_name_no_amounts() -> None:
    articles = load_knowledge()
    for intent, article in articles.items():
        assert 2 <= len(re.findall(r"[.!?](?=\s|$)", article.answer)) <= 3, intent
        assert len(article.answer) <= 420, intent
        assert 3 <= len(article.title) <= 60, intent
        assert not re.search(r"[£$€%]", article.answer), f"{intent}: fees and amounts depend on the price list"
    assert len({a.title for a in articles.values()}) == len({a.answer for a in articles.values()}) == len(articles)
