"""Load intent-classification data sets and check that the files are the published ones.

| call | data |
|---|---|
| `load("banking77")` | folder `BANKLLM_BANKING77`, or the published files, downloaded by Hugging Face `datasets` |
| `load("teller77")` | the set that is packaged with bankllm |
| `load("auto")` | Banking77 if it is available, otherwise Teller77 |
| `load("assistant")` | the training set of the served classifier: `auto` plus the assistant's own intents |
| `load(FOLDER)` | `train.csv` and `test.csv` in that folder, with the columns `text,category` |
"""

import csv
import hashlib
import io
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from numbers import Integral
from pathlib import Path

from bankllm.errors import DataError, DataMissing
from bankllm.settings import Settings, get_settings

TELLER77_FOLDER = Path(__file__).parent / "data" / "teller77"
ASSISTANT_INTENTS = (
    "account_balance",
    "account_details",
    "goodbye",
    "greeting",
    "human_agent",
    "out_of_scope",
    "recent_transactions",
)
"""Intents of the assistant that Banking77 does not have."""
BANKING77_SHA256 = {
    "train": "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
    "test": "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
}
BANKING77_URL = (
    "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/"
    "b30ebac2744f9b815c3ea3b9aff331c09b6b6b13/banking_data/{split}.csv"
)
COLUMNS = ["text", "category"]


@dataclass(frozen=True)
class Licence:
    """The licence of a data set and the attribution that it requires."""

    id: str
    """Licence identifier of the Hugging Face Hub."""
    notice: str
    """One line of Markdown that names the source and the licence."""


_CC_BY = Licence(
    "cc-by-4.0",
    "Trained on Banking77 by PolyAI (Casanueva et al., 2020, *Efficient Intent Detection with Dual Sentence Encoders*, "
    "[arXiv 2003.04807](https://arxiv.org/abs/2003.04807)), licensed "
    "[CC BY 4.0](https://creativecommons.org/licenses/by/4.0/).",
)
_CC0 = Licence(
    "cc0-1.0",
    "Trained on Teller77 by the bankllm authors, dedicated to the public domain "
    "([CC0 1.0](https://creativecommons.org/publicdomain/zero/1.0/)).",
)
LICENCES = {
    "banking77": _CC_BY,
    "teller77": _CC0,
    "assistant(banking77+teller77)": _CC_BY,
    "assistant(teller77)": _CC0,
}
"""Licences of the data sets that `load` knows by name. No other data set gets one of these names."""


@dataclass(frozen=True)
class Split:
    """Texts and their labels, in the same order. A label is a position in `Dataset.label_names`.

    Raises `DataError` if the numbers of texts and labels differ.
    """

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
    """A training and a test split with the same list of label names."""

    name: str
    label_names: tuple[str, ...]
    train: Split
    test: Split
    sha256: dict[str, str]
    """`train` and `test` → sha256 of the file as it was read, before any selection of intents."""
    source: str
    """Origin of the files for the reader, e.g. `packaged`. Never a path."""

    def __post_init__(self) -> None:
        """Raise `DataError` for a repeated label name, and for the first text that is blank or has an invalid label."""
        if len(set(self.label_names)) < len(self.label_names):
            raise DataError(f"{self.name}: label names must be unique, got {', '.join(self.label_names)}.")
        for name, split in (("train", self.train), ("test", self.test)):
            for row, (text, label) in enumerate(zip(split.texts, split.labels, strict=True)):
                if not isinstance(text, str) or not text.strip():
                    raise DataError(
                        f"{self.name}, {name} text {row} (counted from 0): expected a non-blank text, got {text!r}."
                    )
                if not isinstance(label, Integral) or not 0 <= label < len(self.label_names):
                    raise DataError(
                        f"{self.name}, {name} text {row} (counted from 0): expected a label from 0 to "
                        f"{len(self.label_names) - 1} (a position in label_names), got {label!r}."
                    )

    def conditions(self) -> dict[str, object]:
        """The data set as conditions of a measurement record: name, sizes and sha256 of the files."""
        return {
            "dataset": self.name,
            "train_rows": len(self.train),
            "test_rows": len(self.test),
            "intents": len(self.label_names),
            "train_sha256": self.sha256["train"],
            "test_sha256": self.sha256["test"],
        }

    def describe(self) -> str:
        """One line that describes the data set for the reader."""
        return (
            f"{self.name} ({self.source}): {len(self.train):,} train and {len(self.test):,} test texts, "
            f"{len(self.label_names)} intents"
        )

    def select(self, label_names: Sequence[str], suffix: str) -> "Dataset":
        """Returns a data set with only these labels, in this order.

        `suffix` becomes part of the name, so that a number measured on the selection cannot be mistaken for a number
        on the whole set.
        """
        new_id = {self.label_names.index(label): position for position, label in enumerate(label_names)}

        def pick(split: Split) -> Split:
            kept = [(t, new_id[y]) for t, y in zip(split.texts, split.labels, strict=True) if y in new_id]
            return Split(tuple(t for t, _ in kept), tuple(y for _, y in kept))

        return replace(
            self,
            name=f"{self.name}[{suffix}]",
            label_names=tuple(label_names),
            train=pick(self.train),
            test=pick(self.test),
        )

    def first_intents(self, count: int | None) -> "Dataset":
        """Returns a data set with only the first `count` labels; None returns the whole set."""
        if count is None or count >= len(self.label_names):
            return self
        return self.select(self.label_names[:count], f"{count} intents")


def licence(name: str) -> Licence | None:
    """Licence of the data set with that `Dataset.name`, which may be a selection; None if the licence is unknown."""
    return LICENCES.get(name.partition("[")[0])


def normalise(text: str) -> str:
    """Lower-case the text and keep only letters and digits. Two texts with the same result count as duplicates."""
    folded = unicodedata.normalize("NFKC", text).lower()
    return " ".join(re.findall(r"\w+", folded))


def load(name: str = "auto", settings: Settings | None = None) -> Dataset:
    """Load a data set by name; see the table above. Raises `DataError` if it is missing or damaged."""
    settings = settings or get_settings()
    if name == "teller77":
        return _read_folder(TELLER77_FOLDER, "teller77", "packaged")
    if name == "banking77":
        return _banking77(settings)
    if name == "assistant":
        return _assistant(settings)
    if name == "auto":
        try:
            return _banking77(settings)
        except DataMissing:  # A damaged copy raises DataError: it must not be replaced silently by another data set.
            return load("teller77", settings)
    folder = Path(name)
    if folder.is_dir():
        folder_name = folder.resolve().name
        return _read_folder(folder, f"folder {folder_name}" if licence(folder_name) else folder_name, "folder")
    raise DataError(
        f"Unknown data set {name!r}. Expected auto, banking77, teller77, assistant, or a folder with train.csv "
        "and test.csv (columns text,category)."
    )


@cache
def intent_definitions() -> dict[str, str]:
    """Intent → its meaning in one line, for Banking77's 77 intents and the assistant's 7."""
    definitions: dict[str, str] = json.loads((TELLER77_FOLDER / "intents.json").read_text(encoding="utf-8"))
    return definitions


def banking77_labels() -> tuple[str, ...]:
    """The 77 labels of Banking77 in alphabetical order."""
    return tuple(sorted(set(intent_definitions()) - set(ASSISTANT_INTENTS)))


def _assistant(settings: Settings) -> Dataset:
    """The training data of the served classifier.

    Banking77 plus the assistant's intents from Teller77, or all of Teller77 if Banking77 is not available.
    """
    teller77 = load("teller77", settings)
    main = load("auto", settings)
    if main.name == "teller77":
        return replace(main, name="assistant(teller77)")
    names = (*main.label_names, *ASSISTANT_INTENTS)
    extra = teller77.select(ASSISTANT_INTENTS, "assistant intents")
    offset = len(main.label_names)

    def join(a: Split, b: Split) -> Split:
        return Split((*a.texts, *b.texts), (*a.labels, *(y + offset for y in b.labels)))

    return Dataset(
        name="assistant(banking77+teller77)",
        label_names=names,
        train=join(main.train, extra.train),
        test=join(main.test, extra.test),
        sha256={s: hashlib.sha256((main.sha256[s] + teller77.sha256[s]).encode()).hexdigest() for s in main.sha256},
        source=f"{main.source} and packaged",
    )


def _banking77(settings: Settings) -> Dataset:
    if settings.banking77 is not None:
        folder, source = settings.banking77, "folder"
        paths = {split: folder / f"{split}.csv" for split in BANKING77_SHA256}
    else:
        paths, source = _fetch_banking77(settings), "published files"
    return _read_files(
        paths, "banking77", source, allowed=frozenset(banking77_labels()), expected_sha256=BANKING77_SHA256
    )


def _fetch_banking77(settings: Settings) -> dict[str, Path]:
    missing = (
        "Banking77 was not found: BANKLLM_BANKING77 is not set (expected a folder with the published train.csv and "
        "test.csv), and the files are not in the Hugging Face cache"
    )
    hint = "Set BANKLLM_BANKING77, go online once to download the files, or use the packaged data set teller77."
    if settings.offline:
        raise DataMissing(f"{missing}; BANKLLM_OFFLINE=1 forbids the download. {hint}")
    from datasets import DownloadConfig, DownloadManager

    config = DownloadConfig(max_retries=1, disable_tqdm=True)
    try:
        return {
            split: Path(str(DownloadManager(download_config=config).download(BANKING77_URL.format(split=split))))
            for split in BANKING77_SHA256
        }
    except Exception as error:
        raise DataMissing(f"{missing}; the download failed ({type(error).__name__}). {hint}") from error


def _read_folder(folder: Path, name: str, source: str) -> Dataset:
    return _read_files({split: folder / f"{split}.csv" for split in ("train", "test")}, name, source)


def _read_files(
    paths: dict[str, Path],
    name: str,
    source: str,
    allowed: frozenset[str] | None = None,
    expected_sha256: dict[str, str] | None = None,
) -> Dataset:
    rows, sha256 = {}, {}
    for split, path in paths.items():
        content = _read_bytes(path, name)
        rows[split] = _parse(content, path, allowed)
        sha256[split] = hashlib.sha256(content).hexdigest()
        if expected_sha256 and sha256[split] != expected_sha256[split]:
            raise DataError(
                f"{path} is not the published {name} file: expected sha256 {expected_sha256[split]}, found "
                f"{sha256[split]}. Restore the published file. To use your own version, load it as a folder, "
                f'load("{path.parent}"): its numbers are then not reported as {name}.'
            )
    label_names = tuple(sorted({label for _, label in rows["train"]}))
    unknown = sorted({label for _, label in rows["test"]} - set(label_names))
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise DataError(
            f"{paths['test']} has labels that {paths['train'].name} does not have: {', '.join(unknown[:5])}{more}. "
            "Every test label must occur in the training file. Correct the labels or the split."
        )
    ids = {label: position for position, label in enumerate(label_names)}
    splits = {
        split: Split(tuple(text for text, _ in pairs), tuple(ids[label] for _, label in pairs))
        for split, pairs in rows.items()
    }
    return Dataset(name, label_names, splits["train"], splits["test"], sha256, source)


def _read_bytes(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"Data set {name}: {path} cannot be read ({os.strerror(error.errno or 0)}). Expected a folder with "
            "train.csv and test.csv. Correct BANKLLM_BANKING77 or the name of the folder."
        ) from error


def _parse(content: bytes, path: Path, allowed: frozenset[str] | None) -> list[tuple[str, str]]:
    """(text, label) pairs of one CSV file.

    Raises `DataError` with the row number of the first fault; the header is row 1.
    """
    try:
        text = content.decode("utf-8-sig")  # spreadsheet programs write a byte-order mark
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, row {row}: expected UTF-8 text, found other bytes. Save the file as UTF-8."
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if header != COLUMNS:
            raise DataError(f"{path}: expected the columns text,category, found {','.join(header) or 'nothing'}.")
        pairs = [_check_row(row, reader.line_num, path, allowed) for row in reader]
    except csv.Error as error:
        raise DataError(
            f"{path}, row {reader.line_num}: not valid CSV ({error}). Correct or restore the file."
        ) from error
    if not pairs:
        raise DataError(f"{path}: expected rows below the header, found none. Restore the file.")
    return pairs


def _check_row(row: list[str], number: int, path: Path, allowed: frozenset[str] | None) -> tuple[str, str]:
    if len(row) != len(COLUMNS):
        raise DataError(f"{path}, row {number}: expected 2 columns (text,category), found {len(row)}.")
    text, label = row[0].strip(), row[1].strip()
    if "\0" in text or "\0" in label:
        raise DataError(f"{path}, row {number}: found a NUL byte. The file is damaged or UTF-16. Save it as UTF-8.")
    if not text or not label:
        raise DataError(
            f"{path}, row {number}: the {'text' if not text else 'category'} is empty. Fill in or remove the row."
        )
    if allowed is not None and label not in allowed:
        raise DataError(f"{path}, row {number}: unknown label {label!r}. Expected one of the 77 published intents.")
    return text, label
