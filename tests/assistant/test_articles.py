"""The packaged vectors of the articles find the article of a question, and nothing for other questions."""

import logging

import pytest

from bankllm.assistant.articles import ArticleSearch
from bankllm.assistant.decision import Decision
from bankllm.datasets import article_questions
from bankllm.vectors.embedder import Embedder
from tests.support.fake_embedder import fake_embedder


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture(scope="module")
def search(embedder: Embedder) -> ArticleSearch:
    return ArticleSearch(embedder)


def test_questions_find_their_article_or_are_refused(embedder: Embedder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    search = ArticleSearch(embedder)
    assert "embedded" not in caplog.text, "run benchmarks/understanding.py --articles"
    rows = article_questions.load()
    vectors = embedder.encode([row.question for row in rows])
    found = [(row, search.best(search.scores(row.question, vector))) for row, vector in zip(rows, vectors, strict=True)]
    right = [(hit.sure, hit.article in row.articles) for row, hit in found if hit and row.articles]
    assert sum(is_right for _, is_right in right) > 0.75 * sum(bool(row.articles) for row in rows)
    sure = [is_right for is_sure, is_right in right if is_sure]
    assert sum(sure) > 0.85 * len(sure)
    refused = [hit is None for row, hit in found if not row.articles]
    assert sum(refused) > 0.75 * len(refused)


@pytest.mark.parametrize(
    ("question", "articles"),
    [
        ("can i use my card abroad?", {"travel_notice", "card_acceptance", "foreign_card_fee"}),
        ("how much are overdraft fees", {"arranged_overdraft_cost", "unarranged_overdraft"}),
        ("can two of us use one login", {"login_one_person"}),
        ("Do you do mortgages for people who are self employed", {"mortgage_self_employed"}),
        ("delete the payee i never use", {"payee_delete"}),
        ("can you overpay a loan without a penalty", {"clear_loan_early_repayment"}),
        ("how come my balance and what I can spend are not the same", {"available_balance"}),
        ("forgot my purse, can I take money out at the branch with just my ID", {"cash_without_card"}),
        ("what does unarranged mean", {"overdraft_arranged_or_unarranged"}),
        ("shop refunded me to a card i no longer have", {"refund_old_card"}),
        ("app says limit reached try later, how much later", {"limit_reset"}),
        ("cheque payable to my old surname, what now", {"cheque_name"}),
        ("on holiday in Turkey, card declined three times today at the hotel", {"card_refused_abroad"}),
        ("is eleven on Thursday free to talk about a business loan in the branch", {"appointment_booking"}),
    ],
)
def test_common_questions_find_their_article(
    search: ArticleSearch, embedder: Embedder, question: str, articles: set[str]
) -> None:
    found = search.best(search.scores(question, embedder.encode([question])[0]))
    assert found is not None
    assert found.article in articles


@pytest.mark.parametrize("question", ["who won the world cup in 1998", "zzz", "recipe for pancakes"])
def test_nothing_fits_other_questions(search: ArticleSearch, embedder: Embedder, question: str) -> None:
    assert search.best(search.scores(question, embedder.encode([question])[0])) is None


def test_another_encoder_embeds_the_articles_itself() -> None:
    embedder = fake_embedder()
    title = "Large print, braille, audio and easy-to-see cards"
    search = ArticleSearch(embedder)
    found = search.best(search.scores(title, embedder.encode([title])[0]))
    assert found is not None
    assert found.article == "accessibility_large_print_braille"


@pytest.mark.parametrize(
    ("question", "intent", "confidence", "expected"),
    [
        ("my top-up did not arrive", "pending_top_up", 0.97, True),
        ("my top-up did not arrive", "pending_top_up", 0.4, False),
        ("my old bank said seven working days and my bills still have not moved over", "transfer_timing", 0.82, False),
        ("hello", "greeting", 0.99, False),
        ("Turn off contactless", "contactless_not_working", 0.99, False),
    ],
)
def test_the_classifiers_topic_counts_unless_another_article_is_nearer(
    embedder: Embedder, question: str, intent: str, confidence: float, expected: bool
) -> None:
    search = ArticleSearch(embedder)
    decision = Decision(intent, confidence, topic=intent, chance=confidence)
    assert search.is_topic(decision, search.scores(question, embedder.encode([question])[0])) is expected


def test_an_article_that_is_not_sure_names_the_next_one(search: ArticleSearch, embedder: Embedder) -> None:
    question = "how much can i take out the cashpoint in one go"
    found = search.best(search.scores(question, embedder.encode([question])[0]))
    assert found is not None
    assert found.arguments == {"article": "cash_limit_500", "sure": False, "other": "branch_cash_withdrawal"}
