"""Recall: 1 for an exact search, less for an inexact one; votes leave out the text itself."""

from typing import Any

import numpy as np
import pytest

from bankllm.datasets import load
from bankllm.errors import UsageError
from bankllm.lab.vector_corpus import LabelledText, fill, gather
from bankllm.lab.vector_recall import check_neighbours, majority
from bankllm.vectors.service import open_service
from bankllm.vectors.store import Query
from tests.support.fake_embedder import fake_embedder


def test_an_exact_search_has_recall_1_and_an_inexact_one_less(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = gather(load("teller77"))[:100]
    embedder = fake_embedder()
    vectors = embedder.encode([text.text for text in texts])
    with open_service(embedder=embedder) as service:
        everything = fill(service, texts, vectors).everything
        rows = check_neighbours(service, everything, texts, vectors, [3, 50, 99])
        assert [(row["text_id"], row["recall"]) for row in rows] == [(3, 1), (50, 1), (99, 1)]
        assert all(float(str(row["score_error"])) < 1e-6 for row in rows)
        found = service.store.search_many

        def lossy(queries: list[Query], top_k: int) -> list[Any]:
            return [matches[2:] for matches in found(queries, top_k + 2)]

        monkeypatch.setattr(service.store, "search_many", lossy)
        (row,) = check_neighbours(service, everything, texts, vectors, [3])
        assert row["recall"] == 0.8


def test_votes_leave_out_the_text_itself_and_knn_uses_only_training_texts() -> None:
    # Points on a circle: the query at 0°, then texts at increasing distance.
    intents = ["a", "b", "b", "a", "a", "a", *"c" * 6]
    texts = [LabelledText(f"text {i}", intent, "own", "train" if i > 3 else "test") for i, intent in enumerate(intents)]
    angles = 0.1 * np.arange(len(texts))
    embedder = fake_embedder()
    vectors = np.zeros((len(texts), embedder.dim), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    with open_service(embedder=embedder) as service:
        everything = fill(service, texts, vectors).everything
        (row,) = check_neighbours(service, everything, texts, vectors, [0])
    assert (row["actual"], row["nearest"], row["majority"], row["knn"]) == ("a", "b", "a", "c")
    assert row["recall"] == 1


def test_the_nearest_of_equally_frequent_intents_wins() -> None:
    assert majority(["b", "a", "a", "b", "c"]) == "b"


def test_too_few_texts_are_an_error() -> None:
    texts = [LabelledText("text", "a", "own", "test")] * 3
    with open_service(embedder=fake_embedder()) as service:
        everything = fill(service, texts, np.eye(3, service.embedder.dim)).everything
        with pytest.raises(UsageError, match="more than 10 texts and one vector per text, found 3 texts and 3 vectors"):
            check_neighbours(service, everything, texts, np.eye(3), [0])
