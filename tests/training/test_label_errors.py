"""Flipped labels are found, and few correct labels are suspected."""

import numpy as np
import pytest

from bankllm.errors import DataError, UsageError
from bankllm.training.label_errors import judge_labels, out_of_fold


@pytest.mark.parametrize("share", [0.03, 0.1, 0.2])
def test_most_flipped_labels_are_found_and_few_correct_labels_are_suspected(share: float) -> None:
    generator = np.random.default_rng(4)
    true = np.repeat(np.arange(10), 60)
    vectors = generator.normal(size=(10, 64))[true] + generator.normal(size=(600, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    wrong = generator.uniform(size=600) < share
    given = np.where(wrong, (true + generator.integers(1, 10, 600)) % 10, true)
    rows = judge_labels(out_of_fold(vectors, given.tolist()), given.tolist(), [str(label) for label in range(10)])
    suspected = {row["text_id"] for row in rows if row["suspected"] == "yes"}
    hits = suspected & set(np.flatnonzero(wrong).tolist())
    assert len(hits) / wrong.sum() >= 0.8
    assert len(hits) / len(suspected) >= 0.85
    assert np.mean([row["suggested"] == str(true[int(str(row["text_id"]))]) for row in rows[: len(hits)]]) >= 0.9


def test_the_suspected_labels_match_a_manual_calculation() -> None:
    """Thresholds: a (0.9 + 0.8 + 0.7 + 0.2) / 4 = 0.65, b (0.85 + 0.6) / 2 = 0.725; c has no text and no threshold.

    Text 3 of label a reaches the threshold of b. Text 5 of label b has c as its second choice, but prefers b.
    """
    probabilities = np.array([[9, 1, 0], [8, 2, 0], [7, 3, 0], [2, 7.5, 0.5], [1.5, 8.5, 0], [0, 6, 4]]) / 10
    rows = judge_labels(probabilities, [0, 0, 0, 0, 1, 1], ["a", "b", "c"])
    labels = {"text_id": 3, "given": "a", "suggested": "b", "suspected": "yes"}
    assert rows[0] == {**labels, "self_confidence": pytest.approx(0.2), "margin": pytest.approx(-0.55)}
    assert [row["text_id"] for row in rows] == [3, 5, 2, 1, 4, 0]
    assert [row["suspected"] for row in rows[1:]] == ["no"] * 5
    assert rows[1]["suggested"] == "c"
    unsure = judge_labels(np.array([[2, 7, 1], [1.5, 8.5, 0], [0, 6, 4]]) / 10, [0, 1, 1], ["a", "b", "c"])
    assert [row["suspected"] for row in unsure] == ["no"] * 3  # 0.7 is below the threshold of b


def test_no_text_is_judged_by_a_model_trained_on_it() -> None:
    """Random vectors cannot be classified by cross-validation, although a regression can memorise all of them."""
    generator = np.random.default_rng(0)
    vectors, labels = generator.normal(size=(90, 200)), list(range(3)) * 30
    probabilities = out_of_fold(vectors, labels)
    assert probabilities.shape == (90, 3)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(90))
    assert np.mean(probabilities.argmax(axis=1) == labels) < 0.55
    assert np.array_equal(probabilities, out_of_fold(vectors, labels))
    assert not np.array_equal(probabilities, out_of_fold(vectors, labels, seed=1))


def test_too_few_texts_per_label_and_a_wrong_shape_are_refused() -> None:
    with pytest.raises(DataError, match="Label 1 has 3 texts, too few for 5 folds"):
        out_of_fold(np.zeros((13, 4)), [0] * 10 + [1] * 3)
    with pytest.raises(UsageError, match=r"shape \(2, 3\), .*got \(2, 2\)"):
        judge_labels(np.zeros((2, 2)), [0, 1], ["a", "b", "c"])
