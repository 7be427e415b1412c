"""The packaged questions: their articles exist, and no question is an article's text."""

from collections import Counter

from bankllm.assistant.bank.knowledge import load_knowledge
from bankllm.datasets import normalise
from bankllm.datasets.article_questions import load


def test_each_question_has_articles_that_exist_unless_no_article_answers_it() -> None:
    questions, articles = load(), load_knowledge()
    assert {id_ for question in questions for id_ in question.articles} <= articles.keys()
    assert all((question.kind == "none") == (not question.articles) for question in questions)
    kinds = Counter(question.kind for question in questions)
    assert kinds == {"paraphrase": 173, "number": 106, "name": 62, "code": 59, "none": 46}


def test_questions_are_distinct_and_not_those_of_the_articles() -> None:
    texts = [normalise(question.question) for question in load()]
    assert len(set(texts)) == len(texts)
    asked = {normalise(text) for article in load_knowledge().values() for text in article.asked}
    assert not asked.intersection(texts)
