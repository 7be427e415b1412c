"""Which labels look wrong: confident learning (Northcutt et al., arXiv 1911.00068), in a small version of our own.

The known implementation, cleanlab, is AGPL-3.0 and this package Apache-2.0, so this one is written from the paper.
A text is suspect where a model that did not learn from it is confident of another label than the given one.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from bankllm.datasets import Dataset
from bankllm.errors import DataError, UsageError

AUDIT_C = 3.0
"""Inverse regularisation, a tenth of the probe's: a model bound more tightly learns fewer wrong labels by heart. Of 297
labels flipped in 20 intents of Banking77 (10 %), 239 were among the 249 suspects."""


def audit(
    data: Dataset,
    train_embeddings: np.ndarray,
    test_probabilities: np.ndarray,
    folds: int = 5,
    seed: int = 0,
) -> list[dict[str, object]]:
    """Judge every label of both splits; the rows of `judge` with a column `split` (train, test) before them.

    `train_embeddings` (n, hidden) are the frozen base's (`TrainResult.frozen.vectors`), judged out of fold;
    `test_probabilities` (m, classes) a trained classifier's `score(data.test.texts).probabilities`.
    """
    probabilities = {"train": out_of_fold(train_embeddings, data.train.labels, folds, seed), "test": test_probabilities}
    labels = {"train": data.train.labels, "test": data.test.labels}
    return [
        {"split": split, **row}
        for split in probabilities
        for row in judge(probabilities[split], labels[split], data.label_names)
    ]


def out_of_fold(embeddings: np.ndarray, labels: Sequence[int], folds: int = 5, seed: int = 0) -> np.ndarray:
    """(n, hidden) embeddings → (n, classes) probabilities, each by a logistic regression that never saw the text.

    Labels are 0 … classes − 1. Raises `DataError` where one has fewer texts than there are folds.
    """
    given = np.asarray(labels)
    counts = np.bincount(given)
    if counts.min() < folds:
        raise DataError(
            f"Label {counts.argmin()} has {counts.min()} texts, too few for {folds} folds: a fold without it would "
            "call every such text wrong. Expected at least one a fold; use fewer folds or add texts."
        )
    probabilities = np.empty((len(given), len(counts)))
    for learn, judged in StratifiedKFold(folds, shuffle=True, random_state=seed).split(embeddings, given):
        model = LogisticRegression(C=AUDIT_C, max_iter=2000, random_state=seed).fit(embeddings[learn], given[learn])
        probabilities[judged] = model.predict_proba(embeddings[judged])
    return probabilities


def judge(probabilities: np.ndarray, labels: Sequence[int], label_names: Sequence[str]) -> list[dict[str, object]]:
    """Judge each label by (n, classes) probabilities of a model that did not learn from the text; worst first.

    Suspected is what the paper's method C+NR prunes, both by class and by noise rate, unless the model calls the
    text by its given label after all.
    Columns: `text_id` (position), `given`, `suggested` (the likeliest other label), `self_confidence` (probability
    of the given one), `margin` (that minus the suggested one's; ascending), `suspected` (yes or no).
    """
    given, n = np.asarray(labels), len(labels)
    if probabilities.shape != (n, len(label_names)):
        raise UsageError(
            f"Expected probabilities of shape ({n}, {len(label_names)}), one row a text and one column a label, got "
            f"{probabilities.shape}."
        )
    own = probabilities[np.arange(n), given]
    others = np.array(probabilities)
    others[np.arange(n), given] = -1
    suggested = others.argmax(axis=1)
    margin = own - others.max(axis=1)
    suspected = _prune(probabilities, given, _confident_joint(probabilities, given)) & (margin < 0)
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


def _confident_joint(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(classes, classes) estimate of how many texts labelled i are truly of class j.

    A class's threshold is the mean probability of it among the texts that carry it; of the classes that reach
    theirs, a text counts as the likeliest. Each row is scaled to the number of texts that carry its label.
    """
    classes = probabilities.shape[1]
    carried = np.bincount(given, minlength=classes)
    sums = np.bincount(given, weights=probabilities[np.arange(len(given)), given], minlength=classes)
    thresholds = np.where(carried > 0, sums / np.maximum(carried, 1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    sure = confident.max(axis=1) >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (given[sure], confident[sure].argmax(axis=1)), 1)
    return joint * (carried / np.maximum(joint.sum(axis=1), 1))[:, None]


def _prune(probabilities: np.ndarray, given: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """(n,) whether both prunings of the paper take the text, as many texts as the joint says are mislabelled.

    By class: of each label, those least sure of it. By noise rate: of each pair of labels, those that lean furthest
    from the given one to the other.
    """
    by_class, by_noise_rate = np.zeros(len(given), bool), np.zeros(len(given), bool)
    for label, row in enumerate(joint):
        texts = np.flatnonzero(given == label)
        own = probabilities[texts, label]
        by_class[texts[np.argsort(own, kind="stable")[: round(row.sum() - row[label])]]] = True
        for other in np.flatnonzero(np.round(row)):
            if other != label:
                leaning = np.argsort(own - probabilities[texts, other], kind="stable")
                by_noise_rate[texts[leaning[: round(row[other])]]] = True
    return by_class & by_noise_rate


def with_suspicion(
    predictions: Iterable[Mapping[str, object]], judged: Iterable[Mapping[str, object]]
) -> list[dict[str, object]]:
    """Prediction rows of the test split with the audit's `suspected` beside them.

    Accuracy over the rows that are not suspected is a second line, never the headline: where the judge is the
    classifier itself, its own confident mistakes are the first to be left out.
    """
    suspected = {str(row["text_id"]): row["suspected"] for row in judged if row.get("split", "test") == "test"}
    rows = [dict(row) for row in predictions]
    if {str(row["text_id"]) for row in rows} != set(suspected):
        raise UsageError(f"{len(rows)} predictions and {len(suspected)} audited test texts are not the same texts.")
    return [{**row, "suspected": suspected[str(row["text_id"])]} for row in rows]
