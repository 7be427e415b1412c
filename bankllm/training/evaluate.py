"""Evaluate a trained classifier on the test split and on texts that are harder than the test split.

    rows = evaluate(result.classifier, data, predictions=result.predictions)

The harder texts are:

- the same intents in another author's words (Teller77),
- questions that are out of scope: far (other topics) and near (intents held out of training).

Test texts that also occur in the training split are marked as near-duplicates.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bankllm import datasets
from bankllm.datasets import Dataset, Split
from bankllm.errors import DataError, UsageError
from bankllm.model.torch_classifier import IntentClassifier

OUT_OF_SCOPE = "out_of_scope"
"""Label and set name of questions on other topics."""


@dataclass(frozen=True)
class QuestionSet:
    """A named set of evaluation texts with their labels."""

    name: str
    texts: tuple[str, ...]
    actual: tuple[str, ...]
    """The correct label name of each text. The classifier does not know the labels of out-of-scope texts."""
    in_scope: bool
    """Whether the classifier was trained on the intents of these texts."""


def evaluate(
    classifier: IntentClassifier,
    data: Dataset,
    *more: QuestionSet,
    predictions: Sequence[Mapping[str, object]] | None = None,
) -> list[dict[str, object]]:
    """Classify every set of `question_sets(data)` and of `more` (for example from `hold_out`). One row per text.

    Columns: `set`, `text_id` (position in the set), `actual`, `predicted`, `confidence` (0 … 1), `in_scope` (yes or
    no) and `near_duplicate` (yes or no: whether the text is also in `data.train`, see `near_duplicates`).
    `predictions` are `TrainResult.predictions` of a training on `data`. With them the test split is not classified
    again.
    Raises `UsageError` if the classifier has other labels than `data`, and `DataError` if `predictions` belong to
    other texts.
    """
    if classifier.label_names != data.label_names:
        raise UsageError(
            f"The classifier has {len(classifier.label_names)} labels and {data.name} has {len(data.label_names)}; "
            "they are not the same labels. Evaluate with the data set on which the classifier was trained."
        )
    known = {_without_punctuation(text) for text in data.train.texts}
    rows: list[dict[str, object]] = []
    for questions in (*question_sets(data), *more):
        given = predictions if questions.name == "test" else None
        answers = _classify(classifier, questions) if given is None else _checked(given, questions)
        rows += [
            {
                "set": questions.name,
                "text_id": text_id,
                "actual": actual,
                "predicted": predicted,
                "confidence": confidence,
                "in_scope": "yes" if questions.in_scope else "no",
                "near_duplicate": "yes" if _without_punctuation(text) in known else "no",
            }
            for text_id, (text, actual, (predicted, confidence)) in enumerate(
                zip(questions.texts, questions.actual, answers, strict=True)
            )
        ]
    return rows


def question_sets(data: Dataset) -> list[QuestionSet]:
    """The evaluation sets for a classifier trained on `data`: `test`, and up to two sets from Teller77.

    - `teller77`, out of distribution: Teller77's test texts of the intents of `data`. An intent is left out if
      `data.train` contains Teller77 texts of it. The set is missing if no intent remains.
    - `out_of_scope`, far: Teller77's texts on other topics, train split before test split. The set is missing if
      `data` itself has the label `out_of_scope`.
    """
    sets = [QuestionSet("test", data.test.texts, _names(data, data.test), in_scope=True)]
    teller = datasets.load("teller77")
    trained_on = set(data.train.texts)
    trained_labels = {
        label
        for text, label in zip(teller.train.texts, _names(teller, teller.train), strict=True)
        if text in trained_on
    }
    unseen_wording = tuple(
        (text, label)
        for text, label in zip(teller.test.texts, _names(teller, teller.test), strict=True)
        if label in data.label_names and label not in trained_labels
    )
    if unseen_wording:
        texts, labels = zip(*unseen_wording, strict=True)
        sets.append(QuestionSet("teller77", texts, labels, in_scope=True))
    if OUT_OF_SCOPE not in data.label_names:
        far = teller.select((OUT_OF_SCOPE,), "far")
        texts = (*far.train.texts, *far.test.texts)
        sets.append(QuestionSet("out_of_scope", texts, (OUT_OF_SCOPE,) * len(texts), in_scope=False))
    return sets


def hold_out(data: Dataset, count: int = 7, seed: int = 0) -> tuple[Dataset, QuestionSet]:
    """Remove `count` random intents from `data`. Returns the remaining data set and the removed test texts.

    The removed test texts, named `held_out`, are near out-of-scope questions: same bank and same style, but an intent
    on which the classifier was not trained. The label `out_of_scope` is never removed.
    Raises `UsageError` unless at least two intents remain.
    """
    names = [name for name in data.label_names if name != OUT_OF_SCOPE]
    if not 1 <= count <= len(names) - 2:
        raise UsageError(
            f"{count} intents cannot be held out of {data.name}, which has {len(names)}: two must remain for the "
            f"training. Choose a count from 1 to {len(names) - 2}."
        )
    chosen = set(random.Random(seed).sample(names, count))
    others = data.select([name for name in data.label_names if name in chosen], "held out")
    known = data.select(
        [name for name in data.label_names if name not in chosen], f"{count} intents held out, seed {seed}"
    )
    return known, QuestionSet("held_out", others.test.texts, _names(others, others.test), in_scope=False)


def near_duplicates(data: Dataset) -> frozenset[int]:
    """Positions of the test texts that differ from a training text at most in case, spaces and punctuation.

    Punctuation is removed, not replaced by a space, so "top-up" and "top up" differ. Banking77 has 11 near-duplicates
    by this rule. (`datasets.normalise` is broader and finds 25.)
    """
    known = {_without_punctuation(text) for text in data.train.texts}
    return frozenset(i for i, text in enumerate(data.test.texts) if _without_punctuation(text) in known)


def confused_pairs(rows: Iterable[Mapping[str, object]], top: int = 20) -> list[dict[str, object]]:
    """The pairs of intents that are confused most often: at most `top` rows, most errors first.

    Columns: `intent_a`, `intent_b`, `a_as_b` (texts of a that were classified as b), `b_as_a`, and `errors`, the sum
    of both. a is the intent that is misclassified more often.
    `rows` need the columns `actual` and `predicted`. With the rows of several trainings, their counts are added.
    """
    wrong = Counter((str(row["actual"]), str(row["predicted"])) for row in rows if row["actual"] != row["predicted"])
    pairs = {min((a, b), (b, a), key=lambda pair: (-wrong[pair], pair)) for a, b in wrong}
    counted = [
        {
            "intent_a": a,
            "intent_b": b,
            "a_as_b": wrong[a, b],
            "b_as_a": wrong[b, a],
            "errors": wrong[a, b] + wrong[b, a],
        }
        for a, b in sorted(pairs, key=lambda pair: (-wrong[pair] - wrong[pair[::-1]], pair))
    ]
    return counted[:top]


def _classify(classifier: IntentClassifier, questions: QuestionSet) -> list[tuple[str, float]]:
    return [(answer.intent, answer.confidence) for answer in classifier.predict(questions.texts)]


def _checked(predictions: Sequence[Mapping[str, object]], questions: QuestionSet) -> list[tuple[str, float]]:
    """Return label and confidence of the given predictions. Raises `DataError` if they belong to other texts."""
    if [row["actual"] for row in predictions] != list(questions.actual):
        raise DataError(
            f"The {len(predictions)} given predictions do not belong to these {len(questions.texts)} test texts: the "
            "actual labels differ. Pass TrainResult.predictions of a training on the same data."
        )
    return [(str(row["predicted"]), float(str(row["confidence"]))) for row in predictions]


def _names(data: Dataset, split: Split) -> tuple[str, ...]:
    return tuple(data.label_names[label] for label in split.labels)


def _without_punctuation(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", "", text.lower()).split())
