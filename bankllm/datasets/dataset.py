"""A data set of labelled texts: `Split`, `Dataset`, and the text form in which duplicates are equal."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Integral

from bankllm.errors import DataError
from bankllm.util.text import is_blank


@dataclass(frozen=True)
class Split:
    """Texts and their labels (positions in `Dataset.label_names`). Raises `DataError` if their numbers differ."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise DataError(
                f"A split needs one label per text, got {len(self.texts)} texts and {len(self.labels)} labels."
            )

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Dataset:
    """A training and a test split with the same list of label names.

    Raises `DataError` for a repeated label name, and for the first text that is blank or has an invalid label.
    """

    name: str
    label_names: tuple[str, ...]
    train: Split
    test: Split
    sha256: dict[str, str]
    """`train` and `test` → sha256 of the file as it was read, before any selection of intents."""
    source: str
    """Origin of the files for the reader, e.g. `packaged`. Never a path."""

    def __post_init__(self) -> None:
        if len(set(self.label_names)) < len(self.label_names):
            raise DataError(f"{self.name}: label names must be unique, got {', '.join(self.label_names)}.")
        for name, split in (("train", self.train), ("test", self.test)):
            for row, (text, label) in enumerate(zip(split.texts, split.labels, strict=True)):
                where = f"{self.name}, {name} text {row} (counted from 0): expected"
                if not isinstance(text, str) or is_blank(text):
                    raise DataError(f"{where} a non-blank text, got {text!r}.")
                if not isinstance(label, Integral) or not 0 <= label < len(self.label_names):
                    last = len(self.label_names) - 1
                    raise DataError(f"{where} a label from 0 to {last} (a position in label_names), got {label!r}.")

    def conditions(self) -> dict[str, object]:
        """The data set as conditions of a measurement record."""
        return {
            "dataset": self.name,
            "train_rows": len(self.train),
            "test_rows": len(self.test),
            "intents": len(self.label_names),
            "train_sha256": self.sha256["train"],
            "test_sha256": self.sha256["test"],
        }

    def describe(self) -> str:
        return (
            f"{self.name} ({self.source}): {len(self.train):,} train and {len(self.test):,} test texts, "
            f"{len(self.label_names)} intents"
        )

    def select(self, label_names: Sequence[str], suffix: str) -> "Dataset":
        """Returns a data set with only these labels, in this order; `suffix` becomes part of its name."""
        new_id = {self.label_names.index(label): position for position, label in enumerate(label_names)}

        def pick(split: Split) -> Split:
            kept = [(t, new_id[y]) for t, y in zip(split.texts, split.labels, strict=True) if y in new_id]
            return Split(tuple(t for t, _ in kept), tuple(y for _, y in kept))

        name = f"{self.name}[{suffix}]"
        return replace(self, name=name, label_names=tuple(label_names), train=pick(self.train), test=pick(self.test))

    def first_intents(self, count: int | None) -> "Dataset":
        """Returns a data set with only the first `count` labels; None returns the whole set."""
        if count is None or count >= len(self.label_names):
            return self
        return self.select(self.label_names[:count], f"{count} intents")


def normalise(text: str) -> str:
    """Lower-case the text and keep only letters and digits. Two texts with the same result count as duplicates."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return " ".join(re.findall(r"\w+", folded))
