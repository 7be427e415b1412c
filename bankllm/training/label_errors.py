"""Find labels that are probably wrong, with confident learning (Northcutt et al., arXiv 1911.00068).

A label is suspected if a model that was not trained on the text is confident of another label. Written from the paper:
the well-known implementation, cleanlab, is licensed under AGPL-3.0, and this package under Apache-2.0.
"""

from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from bankllm.errors import DataError, UsageError

INVERSE_REGULARISATION = 3.0
"""scikit-learn's `C` of the logistic regression: a tenth of the probe's, so that it memorises fewer wrong labels."""


def out_of_fold(embeddings: np.ndarray, labels: Sequence[int], folds: int = 5, seed: int = 0) -> np.ndarray:
    """Cross-validated probabilities of a logistic regression: (n, hidden) embeddings → (n, classes).

    `labels` are 0 … classes − 1. Raises `DataError` if a label has fewer texts than `folds`.
    """
    counts = np.bincount(labels)
    if counts.min() < folds:
        raise DataError(
            f"Label {counts.argmin()} has {counts.min()} texts, too few for {folds} folds. Expected at least one text "
            "per label and fold, because a model trained without a label never predicts that label. Use fewer folds, "
            "or add texts."
        )
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000, random_state=seed)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    probabilities: np.ndarray = cross_val_predict(
        model, embeddings, np.asarray(labels), cv=split, method="predict_proba"
    )
    return probabilities


def judge_labels(
    probabilities: np.ndarray, labels: Sequence[int], label_names: Sequence[str]
) -> list[dict[str, object]]:
    """Judge each label by (n, classes) probabilities from a model that was not trained on the texts.

    A label is suspected if another class is the most probable one, and reaches its threshold: its mean probability over
    the texts with that label (the off-diagonal entries of the paper's confident joint).

    Returns one row per text, sorted by `margin`, lowest first. Columns: `text_id` (position in the split), `given`
    (label name), `suggested` (the most probable other label), `self_confidence` (probability of the given label),
    `margin` (`self_confidence` minus the probability of `suggested`), `suspected` (yes or no).
    Raises `UsageError` if `probabilities` has another shape.
    """
    given, n = np.asarray(labels), len(labels)
    if probabilities.shape != (n, len(label_names)):
        raise UsageError(
            f"Expected probabilities of shape ({n}, {len(label_names)}), one row per text and one column per label, "
            f"got {probabilities.shape}."
        )
    own = probabilities[np.arange(n), given]
    others = np.array(probabilities)
    others[np.arange(n), given] = -1
    suggested, margin = others.argmax(axis=1), own - others.max(axis=1)
    carried = [given == label for label in range(len(label_names))]
    thresholds = np.array([own[texts].mean() if texts.any() else np.inf for texts in carried])
    suspected = (margin < 0) & (others.max(axis=1) >= thresholds[suggested])
    return [
        {
            "text_id": int(i),
            "given": label_names[given[i]],
            "suggested": label_names[suggested[i]],
            "self_confidence": float(own[i]),
            "margin": float(margin[i]),
            "suspected": "yes" if suspected[i] else "no",
        }
        for i in np.argsort(margin, kind="stable")
    ]
