"""Check data before a training, make a validation split, and calibrate the abstention threshold.

Compare settings on `split_validation(data)`. Then train once on all of `data`, and evaluate the test split once.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from bankllm.datasets import Dataset, Split
from bankllm.errors import DataError, UsageError


def check_trainable(data: Dataset) -> None:
    """Raise `DataError` unless the data set has at least two labels and each label has a training text."""
    if not len(data.train):
        raise DataError(f"{data.name} has no training texts. Add at least one text per label.")
    seen = set(data.train.labels)
    if len(seen) < 2:
        only = data.label_names[next(iter(seen))]
        raise DataError(
            f"{data.name} has training texts of only one label ({only}). A classifier needs at least two; add texts of "
            "another label."
        )
    unseen = [name for label, name in enumerate(data.label_names) if label not in seen]
    if unseen:
        raise DataError(
            f"{data.name} has labels without a training text: {', '.join(unseen[:5])}. Add texts, or select only the "
            "other labels with Dataset.select."
        )


def split_validation(data: Dataset, share: float = 0.1, seed: int = 0) -> Dataset:
    """Split a validation set off the training split: the same share of each label, and at least one text per label.

    In the result, `test` holds the validation texts and `train` the other training texts. The original test split is
    not used. The name of the result states share and seed. A label with a single text keeps that text in `train`.
    Raises `UsageError` unless 0 < `share` < 1.
    """
    if not 0 < share < 1:
        raise UsageError(f"The validation share must be between 0 and 1, got {share}. A usual value is 0.1.")
    by_label: defaultdict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(data.train.labels):
        by_label[label].append(row)
    rng = random.Random(seed)
    held_out = {
        row
        for _, rows in sorted(by_label.items())
        if len(rows) > 1
        for row in rng.sample(rows, min(len(rows) - 1, max(1, round(share * len(rows)))))
    }
    return replace(
        data,
        name=f"{data.name}[validation {share:g}, seed {seed}]",
        train=_rows(data.train, (row for row in range(len(data.train)) if row not in held_out)),
        test=_rows(data.train, sorted(held_out)),
    )


def calibrate_threshold(predictions: Iterable[Mapping[str, object]], keep: float = 0.98) -> float:
    """Return the highest confidence threshold (0 … 1) that keeps at least the share `keep` of the correct predictions.

    `predictions` are the rows of `TrainResult.predictions` of a training on `split_validation(data)`.
    Raises `DataError` if no prediction is correct.
    """
    correct = [float(str(row["confidence"])) for row in predictions if row["predicted"] == row["actual"]]
    if not correct:
        raise DataError(
            "No prediction is correct, so the abstention threshold cannot be calibrated. Pass the predictions of a "
            "training on split_validation(data)."
        )
    return float(np.quantile(correct, 1 - keep, method="lower"))


def _rows(split: Split, rows: Iterable[int]) -> Split:
    kept = list(rows)
    return Split(tuple(split.texts[i] for i in kept), tuple(split.labels[i] for i in kept))
