"""Check data before a training, make a validation split, and calibrate the abstention threshold."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from bankllm.datasets import Dataset, Split
from bankllm.errors import DataError, UsageError


def check_trainable(data: Dataset) -> None:
    """Raise `DataError` unless the data set has at least two labels and each label has a training text."""
    seen = {data.label_names[label] for label in data.train.labels}
    unseen = [name for name in data.label_names if name not in seen]
    if len(seen) < 2 or unseen:
        fault = f"labels without a training text: {', '.join(unseen[:5])}"
        if len(seen) < 2:
            fault = f"training texts of only one label ({min(seen)})" if seen else "no training texts"
        raise DataError(
            f"{data.name} has {fault}. A classifier needs texts of at least two labels, and of each label. Add texts, "
            "or select other labels with Dataset.select."
        )


def split_validation(data: Dataset, share: float = 0.1, seed: int = 0) -> Dataset:
    """Split a validation set off the training split: the same share of each label, and at least one text per label.

    In the result, `test` holds the validation texts and `train` the other training texts. The original test split is
    not used. A label with a single text keeps that text in `train`. Raises `UsageError` unless 0 < `share` < 1.
    """
    if not 0 < share < 1:
        raise UsageError(f"The validation share must be between 0 and 1, got {share}. A usual value is 0.1.")
    rng, held_out = random.Random(seed), set[int]()
    for label in range(len(data.label_names)):
        rows = [row for row, given in enumerate(data.train.labels) if given == label]
        if len(rows) > 1:
            held_out.update(rng.sample(rows, min(len(rows) - 1, max(1, round(share * len(rows))))))

    def rows_of(inside: bool) -> Split:
        rows = [i for i in range(len(data.train)) if (i in held_out) == inside]
        return Split(tuple(data.train.texts[i] for i in rows), tuple(data.train.labels[i] for i in rows))

    name = f"{data.name}[validation {share:g}, seed {seed}]"
    return replace(data, name=name, train=rows_of(False), test=rows_of(True))


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
