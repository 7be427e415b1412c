"""The words of texts, and their BM25 scores."""

import math

import numpy as np
import pytest

from bankllm.vectors.sqlite.words import K1, B, Words, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("£3.50 3.50 3.5", ["3.5", "3.5", "3.5"]),
        ("1,000 and £1,003.00", ["1000", "and", "1003"]),
        ("E14 cr-203 CR203", ["e14", "cr", "203", "cr203", "cr203"]),
        ("O'Brien O’Brien OBRIEN", ["brien", "obrien", "brien", "obrien", "obrien"]),
        ("Sainsbury's SAINSBURYS", ["sainsbury", "sainsburys", "sainsbury"]),
        ("Café cafe\u0301 CAFE Straße", ["cafe", "cafe", "cafe", "strasse"]),
        ("cards cities fees address status", ["card", "city", "fee", "address", "status"]),
        ('card AND NOT (a OR "b*") col:c', ["card", "and", "not", "a", "or", "b", "col", "c"]),
        ("a\0b ?!* 💳", ["a", "b"]),
        ("12.05.2024 3.50gbp", ["12", "05", "2024", "12052024", "3.5", "gbp"]),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, found: list[str]) -> None:
    assert words(text) == found


TEXTS = ["the card is lost", "the card the card", "a new address", "card"]


def bm25(query: str, text: str, texts: list[str]) -> float:
    """The formula as published, with the IDF of Lucene, for one text."""
    mean = sum(len(words(each)) for each in texts) / len(texts)
    score = 0.0
    for word in words(query):
        count = words(text).count(word)
        having = sum(word in words(each) for each in texts)
        weight = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        score += weight * count / (count + K1 * (1 - B + B * len(words(text)) / mean))
    return score


@pytest.mark.parametrize("batches", [(4,), (1, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("query", ["card", "the lost card card", "unknown address", "unknown", ""])
def test_scores_are_those_of_the_formula_for_all_batch_sizes(query: str, batches: tuple[int, ...]) -> None:
    index = Words.empty()
    for size in batches:
        index = index.extended(TEXTS[index.rows : index.rows + size])
    np.testing.assert_allclose(index.scores(query)[0], [bm25(query, text, TEXTS) for text in TEXTS])


def test_words_do_not_change_when_texts_are_appended() -> None:
    before = Words.empty().extended(TEXTS[:2])
    expected = before.scores("card address")[0]
    before.extended(TEXTS[2:])
    np.testing.assert_array_equal(before.scores("card address")[0], expected)
    assert Words.empty().scores("card")[0].tolist() == []


def test_numbers_and_codes_are_scored_separately_if_they_matter() -> None:
    index = Words.empty().extended(["error CR-203 at the shop", "error at the shop", "error CR-204", "203"])
    codes = index.scores("what does CR-203 mean?")[1]
    assert codes is not None
    assert np.flatnonzero(codes).tolist() == [0]
    assert index.scores("error at the shop")[1] is None
    assert index.scores("what does X-1 mean?")[1] is None
