"""Checks before the training, the validation split, and the calibrated threshold."""

from collections import Counter

import pytest

from bankllm.datasets import Dataset, Split
from bankllm.errors import DataError, UsageError
from bankllm.training.split import calibrate_threshold, check_trainable, split_validation


def made(counts: dict[str, int]) -> Dataset:
    """A data set with `counts[label]` training texts per label."""
    names = tuple(counts)
    rows = [(f"{name} {i}", label) for label, name in enumerate(names) for i in range(counts[name])]
    train = Split(tuple(text for text, _ in rows), tuple(label for _, label in rows))
    return Dataset("made", names, train, Split(("test",), (0,)), {"train": "a", "test": "b"}, "test")


def test_no_texts_a_single_label_and_a_label_without_texts_are_refused():
    with pytest.raises(DataError, match="made has no training texts"):
        check_trainable(made({"card": 0, "cash": 0}))
    with pytest.raises(DataError, match=r"training texts of only one label \(card\)"):
        check_trainable(made({"card": 3}))
    with pytest.raises(DataError, match="labels without a training text: cash"):
        check_trainable(made({"card": 3, "cash": 0, "pin": 2}))


def test_validation_takes_its_share_of_each_label_and_leaves_the_test_split_unseen():
    data = made({"card": 40, "cash": 20, "pin": 3, "rare": 1})
    split = split_validation(data, share=0.1)
    assert Counter(split.test.labels) == {0: 4, 1: 2, 2: 1}
    assert Counter(split.train.labels) == {0: 36, 1: 18, 2: 2, 3: 1}
    assert sorted(split.train.texts + split.test.texts) == sorted(data.train.texts)
    assert all(split.test.texts[i].startswith(data.label_names[y]) for i, y in enumerate(split.test.labels))
    assert split.name == "made[validation 0.1, seed 0]"
    assert split_validation(data, seed=1) == split_validation(data, seed=1)
    assert split_validation(data, seed=1).test != split_validation(data, seed=2).test


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(UsageError, match="must be between 0 and 1"):
        split_validation(made({"card": 4, "cash": 4}), share=share)


def test_the_threshold_keeps_the_requested_share_of_correct_predictions():
    rows = [{"actual": "a", "predicted": "a", "confidence": i / 100} for i in range(1, 101)]
    wrong = [{"actual": "a", "predicted": "b", "confidence": 0.999}] * 50
    threshold = calibrate_threshold(rows + wrong, keep=0.9)
    assert sum(row["confidence"] >= threshold for row in rows) >= 90
    assert threshold == pytest.approx(0.1, abs=0.011)
