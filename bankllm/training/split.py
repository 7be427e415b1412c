"""What happens to data around a training: checks before it, a validation split, and abstention after it.

Choose on `split_validation(data)`, then train once on all of `data` and look at its test split once.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from bankllm.datasets import Dataset, Split
from bankllm.errors import DataError, UsageError


def check_trainable(data: Dataset) -> None:
    """Raise `DataError` unless there are at least two labels, each with a training text."""
    if not len(data.train):
        raise DataError(f"{data.name} has no training texts. Expected at least one for each of its labels.")
    seen = set(data.train.labels)
    if len(seen) < 2:
        only = data.label_names[next(iter(seen))]
        raise DataError(f"{data.name} has one class alone ({only}). A classifier needs texts of at least two.")
    unseen = [name for label, name in enumerate(data.label_names) if label not in seen]
    if unseen:
        raise DataError(
            f"{data.name} has labels without a training text: {', '.join(unseen[:5])}. Add texts, or select the "
            "labels to train with Dataset.select."
        )


def split_validation(data: Dataset, share: float = 0.1, seed: int = 0) -> Dataset:
    """Carve a validation split out of the training split, in equal shares of each label (at least one text).

    In the result `train` is what remains and `test` holds the validation texts: the test split itself stays
    unseen, and the name says so. A label with a single text keeps it in `train`.
    """
    if not 0 < share < 1:
        raise UsageError(f"The validation share must lie between 0 and 1, got {share}.")
    by_label: defaultdict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(data.train.labels):
        by_label[label].append(row)
    chooser = random.Random(seed)
    held_out = {
        row
        for _, rows in sorted(by_label.items())
        if len(rows) > 1
        for row in chooser.sample(rows, min(len(rows) - 1, max(1, round(share * len(rows)))))
    }
    return replace(
        data,
        name=f"{data.name}[validation {share:g}, seed {seed}]",
        train=_rows(data.train, (row for row in range(len(data.train)) if row not in held_out)),
        test=_rows(data.train, sorted(held_out)),
    )


def calibrate_threshold(predictions: Iterable[Mapping[str, object]], keep: float = 0.98) -> float:
    """The highest confidence threshold that still keeps a share `keep` of the right answers.

    `predictions` are rows as `TrainResult.predictions` has them, of a training on `split_validation`.
    """
    right = [float(str(row["confidence"])) for row in predictions if row["predicted"] == row["actual"]]
    if not right:
        raise DataError("No prediction is right, so no threshold can be calibrated. Expected validation predictions.")
    return float(np.quantile(right, 1 - keep, method="lower"))


def _rows(split: Split, rows: Iterable[int]) -> Split:
    kept = list(rows)
    return Split(tuple(split.texts[i] for i in kept), tuple(split.labels[i] for i in kept))
