"""The knowledge articles: one per intent that needs one, short, and without amounts."""

import re

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.assistant.engine import LEDGER_INTENTS, SMALL_TALK
from bankllm.datasets.teller77 import ASSISTANT_INTENTS, banking77_labels


def test_every_intent_has_an_answer():
    articles = load_knowledge()
    assert set(articles) == set(banking77_labels()) | SMALL_TALK
    assert set(ASSISTANT_INTENTS) == LEDGER_INTENTS | SMALL_TALK


def test_articles_are_short_distinct_and_name_no_amounts():
    articles = load_knowledge()
    for intent, article in articles.items():
        assert 2 <= len(re.findall(r"[.!?](?=\s|$)", article.answer)) <= 3, intent
        assert len(article.answer) <= 420, intent
        assert 3 <= len(article.title) <= 60, intent
        assert not re.search(r"[£$€%]", article.answer), f"{intent}: fees and amounts depend on the price list"
    assert len({a.title for a in articles.values()}) == len({a.answer for a in articles.values()}) == len(articles)
