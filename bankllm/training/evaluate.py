"""What a trained classifier is asked beyond the test split, and what its answers say.

rows = evaluate(result.classifier, data, predictions=result.predictions)

Questions it should know in another's words (Teller77), questions it should not know (far: other topics; near:
intents held out of training), and test texts that stand in the training split too.
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


@dataclass(frozen=True)
class QuestionSet:
    """Texts that are asked together, and whether the classifier should know them."""

    name: str
    texts: tuple[str, ...]
    actual: tuple[str, ...]
    """The right label name of each; of foreign questions one that the classifier does not know."""
    in_scope: bool


def evaluate(
    classifier: IntentClassifier,
    data: Dataset,
    *more: QuestionSet,
    predictions: Sequence[Mapping[str, object]] | None = None,
) -> list[dict[str, object]]:
    """Ask every set of `question_sets(data)`, and `more` (of `hold_out`, say); one row a text.

    Columns: `set`, `text_id` (position in the set), `actual`, `predicted`, `confidence` (0 … 1), `in_scope` and
    `near_duplicate` (yes or no: it stands in `data.train`, see `near_duplicates`).
    `predictions` (`TrainResult.predictions` of a training on `data`) spares asking the test split once more.
    Raises `UsageError` if they, or the classifier's labels, are not those of `data`.
    """
    if classifier.label_names != data.label_names:
        raise UsageError(
            f"The classifier knows {len(classifier.label_names)} labels, {data.name} has {len(data.label_names)}, and "
            "they are not the same. Evaluate with the data set it was trained on."
        )
    known = {_without_punctuation(text) for text in data.train.texts}
    rows: list[dict[str, object]] = []
    for questions in (*question_sets(data), *more):
        given = predictions if questions.name == "test" else None
        answers = _ask(classifier, questions) if given is None else _checked(given, questions)
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
    """`test`, and what Teller77 adds where none of it was learnt from.

    `teller77`, out of distribution: its test texts of those intents of `data` of which `data.train` holds none of
    Teller77's own texts. `out_of_scope`, far: its texts on other topics, train then test, unless `data` has that
    label and so learnt to know them.
    """
    sets = [QuestionSet("test", data.test.texts, _names(data, data.test), in_scope=True)]
    teller = datasets.load("teller77")
    trained_on = set(data.train.texts)
    learnt = {
        label
        for text, label in zip(teller.train.texts, _names(teller, teller.train), strict=True)
        if text in trained_on
    }
    other_words = tuple(
        (text, label)
        for text, label in zip(teller.test.texts, _names(teller, teller.test), strict=True)
        if label in data.label_names and label not in learnt
    )
    if other_words:
        texts, labels = zip(*other_words, strict=True)
        sets.append(QuestionSet("teller77", texts, labels, in_scope=True))
    if OUT_OF_SCOPE not in data.label_names:
        far = teller.select((OUT_OF_SCOPE,), "far")
        texts = (*far.train.texts, *far.test.texts)
        sets.append(QuestionSet("out_of_scope", texts, (OUT_OF_SCOPE,) * len(texts), in_scope=False))
    return sets


def hold_out(data: Dataset, count: int = 7, seed: int = 0) -> tuple[Dataset, QuestionSet]:
    """Take `count` intents out of `data`: what remains to train on, and the test texts of the others as `held_out`.

    Near out-of-scope questions: same bank, same words, an intent that the classifier never saw. Raises `UsageError`
    unless at least two intents remain.
    """
    names = [name for name in data.label_names if name != OUT_OF_SCOPE]
    if not 1 <= count <= len(names) - 2:
        raise UsageError(
            f"{count} intents cannot be held out of {data.name}: it has {len(names)}, of which 1 to {len(names) - 2} "
            "may be, so that two remain to train on."
        )
    chosen = set(random.Random(seed).sample(names, count))
    others = data.select([name for name in data.label_names if name in chosen], "held out")
    known = data.select(
        [name for name in data.label_names if name not in chosen], f"{count} intents held out, seed {seed}"
    )
    return known, QuestionSet("held_out", others.test.texts, _names(others, others.test), in_scope=False)


def near_duplicates(data: Dataset) -> frozenset[int]:
    """Positions of the test texts that differ from a training text in case, spaces and punctuation at most.

    Punctuation is dropped, not read as a space, so "top-up" and "top up" differ: 11 texts of Banking77.
    (`datasets.normalise` is broader and finds 25.)
    """
    known = {_without_punctuation(text) for text in data.train.texts}
    return frozenset(i for i, text in enumerate(data.test.texts) if _without_punctuation(text) in known)


def confused_pairs(rows: Iterable[Mapping[str, object]], top: int = 20) -> list[dict[str, object]]:
    """The pairs of intents most often taken for each other, most first; fewer than `top` where there are fewer.

    Columns: `intent_a`, `intent_b`, `a_as_b` (texts of a that were called b), `b_as_a` and `errors`, their sum; a is
    the one that is more often misread. `rows` have `actual` and `predicted`: those of one set and one training, or
    of several trainings, whose counts add up.
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


def _ask(classifier: IntentClassifier, questions: QuestionSet) -> list[tuple[str, float]]:
    return [(answer.intent, answer.confidence) for answer in classifier.predict(questions.texts)]


def _checked(predictions: Sequence[Mapping[str, object]], questions: QuestionSet) -> list[tuple[str, float]]:
    """Given answers, if they are to these questions."""
    if [row["actual"] for row in predictions] != list(questions.actual):
        raise DataError(
            f"The {len(predictions)} predictions given are not of these {len(questions.texts)} test texts: their "
            "actual labels differ. Pass TrainResult.predictions of a training on the same data."
        )
    return [(str(row["predicted"]), float(str(row["confidence"]))) for row in predictions]


def _names(data: Dataset, split: Split) -> tuple[str, ...]:
    return tuple(data.label_names[label] for label in split.labels)


def _without_punctuation(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", "", text.lower()).split())
