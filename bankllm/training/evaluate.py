"""Evaluate a trained classifier on the test split and on texts that are harder than the test split.

    rows = evaluate(train(config, data), data)

The harder texts are Teller77's wording of the same intents, and questions that are out of scope: far (other topics)
and near (intents held out of training).
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bankllm import datasets
from bankllm.datasets import Dataset, Split
from bankllm.errors import UsageError
from bankllm.training.train import TrainResult

OUT_OF_SCOPE = "out_of_scope"
"""Label and set name of questions on other topics."""


@dataclass(frozen=True)
class QuestionSet:
    name: str
    texts: tuple[str, ...]
    actual: tuple[str, ...]
    """The correct label name of each text."""


def evaluate(result: TrainResult, data: Dataset, *more: QuestionSet) -> list[dict[str, object]]:
    """Evaluate a training on `data` with its `question_sets` and `more` (such as of `hold_out`): one row per text.

    Columns: `set`, `text_id` (position in the set), `actual`, `predicted`, `confidence` (0 … 1), `in_scope` (yes or
    no) and `near_duplicate` (yes or no: whether a text of `data.train` differs at most in case, spaces and
    punctuation). Raises `UsageError` if the classifier has other labels than `data`.
    """
    classifier = result.classifier
    if classifier.label_names != data.label_names:
        raise UsageError(
            f"The classifier has {len(classifier.label_names)} labels and {data.name} has {len(data.label_names)}; "
            "they are not the same labels. Evaluate with the data set on which the classifier was trained."
        )
    test, *others = (*question_sets(data), *more)
    known = {_without_punctuation(text) for text in data.train.texts}
    rows: list[dict[str, object]] = []
    for questions in (test, *others):
        if questions is test:  # the training has classified it
            answers = [(row["predicted"], row["confidence"]) for row in result.predictions]
        else:
            answers = [(answer.intent, answer.confidence) for answer in classifier.predict(questions.texts)]
        rows += [
            {
                "set": questions.name,
                "text_id": text_id,
                "actual": questions.actual[text_id],
                "predicted": predicted,
                "confidence": confidence,
                "in_scope": "yes" if questions.actual[text_id] in data.label_names else "no",
                "near_duplicate": "yes" if _without_punctuation(questions.texts[text_id]) in known else "no",
            }
            for text_id, (predicted, confidence) in enumerate(answers)
        ]
    return rows


def question_sets(data: Dataset) -> list[QuestionSet]:
    """The evaluation sets for a classifier trained on `data`: `test`, and up to two sets from Teller77.

    - `teller77`, out of distribution: Teller77's test texts of the intents of `data`, except intents of which
      `data.train` contains Teller77 texts.
    - `out_of_scope`, far: Teller77's texts on other topics, unless `data` itself has the label `out_of_scope`.
    """
    sets = [QuestionSet("test", data.test.texts, _names(data, data.test))]
    teller, trained_on = datasets.load("teller77"), set(data.train.texts)
    train = zip(teller.train.texts, _names(teller, teller.train), strict=True)
    usable = set(data.label_names) - {label for text, label in train if text in trained_on}
    if usable & set(teller.label_names):
        test = zip(teller.test.texts, _names(teller, teller.test), strict=True)
        texts, labels = zip(*(row for row in test if row[1] in usable), strict=True)
        sets.append(QuestionSet("teller77", texts, labels))
    if OUT_OF_SCOPE not in data.label_names:
        far = teller.select((OUT_OF_SCOPE,), "far")
        texts = (*far.train.texts, *far.test.texts)
        sets.append(QuestionSet("out_of_scope", texts, (OUT_OF_SCOPE,) * len(texts)))
    return sets


def hold_out(data: Dataset, count: int = 7, seed: int = 0) -> tuple[Dataset, QuestionSet]:
    """Remove `count` random intents from `data`. Returns the remaining data set and the removed test texts.

    The removed test texts, named `held_out`, are near out-of-scope questions. The label `out_of_scope` always stays.
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
    kept = [name for name in data.label_names if name not in chosen]
    held_out = QuestionSet("held_out", others.test.texts, _names(others, others.test))
    return data.select(kept, f"{count} intents held out, seed {seed}"), held_out


def confused_pairs(rows: Iterable[Mapping[str, object]], top: int = 20) -> list[dict[str, object]]:
    """The pairs of intents that are confused most often: at most `top` rows, most errors first.

    Columns: `intent_a`, `intent_b`, `a_as_b` (texts of a that were classified as b), `b_as_a`, and `errors`, the sum
    of both. a is the intent that is misclassified more often. `rows` need the columns `actual` and `predicted`.
    """
    wrong = Counter((str(row["actual"]), str(row["predicted"])) for row in rows if row["actual"] != row["predicted"])
    pairs = {min((a, b), (b, a), key=lambda pair: (-wrong[pair], pair)) for a, b in wrong}
    counted = [(a, b, wrong[a, b], wrong[b, a], wrong[a, b] + wrong[b, a]) for a, b in pairs]
    columns = ("intent_a", "intent_b", "a_as_b", "b_as_a", "errors")
    return [dict(zip(columns, row, strict=True)) for row in sorted(counted, key=lambda row: (-row[4], row))[:top]]


def _names(data: Dataset, split: Split) -> tuple[str, ...]:
    return tuple(data.label_names[label] for label in split.labels)


def _without_punctuation(text: str) -> str:
    """Punctuation is removed, not replaced by a space, so "top-up" and "top up" differ."""
    return " ".join(re.sub(r"[^\w\s]", "", text.lower()).split())
