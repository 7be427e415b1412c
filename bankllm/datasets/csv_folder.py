"""Read a data set from `train.csv` and `test.csv` with the columns `text,category`, and check every row."""

import csv
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

from bankllm.datasets.dataset import Dataset, Split
from bankllm.errors import DataError, explained
from bankllm.util.text import is_blank

COLUMNS = ["text", "category"]


def read_folder(folder: Path, name: str, source: str, published: Mapping[str, str] | None = None) -> Dataset:
    return read_files({split: folder / f"{split}.csv" for split in ("train", "test")}, name, source, published)


def read_files(
    paths: Mapping[str, Path], name: str, source: str, published: Mapping[str, str] | None = None
) -> Dataset:
    """Read the files of the splits `train` and `test`; `published` has their sha256, if no others are accepted.

    Raises `DataError` with the file and row (the header is row 1) of the first fault.
    """
    rows, sha256 = {}, {}
    for split, path in paths.items():
        advice = "Expected a folder with train.csv and test.csv. Correct BANKLLM_BANKING77 or the name of the folder."
        with explained(DataError, f"Data set {name}: {path} cannot be read", advice, OSError):
            content = path.read_bytes()
        sha256[split] = hashlib.sha256(content).hexdigest()
        rows[split] = _parse(content, path)
        if published and sha256[split] != published[split]:
            only_line_ends = hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest() == published[split]
            raise DataError(
                f"{path} is not the published {name} file: expected sha256 {published[split]}, found {sha256[split]}. "
                + ("Only its line ends differ, as after git checks it out with core.autocrlf. " * only_line_ends)
                + f'Restore the published file. To use your own version, load it as a folder, load("{path.parent}"): '
                f"its numbers are then not reported as {name}."
            )
    label_names = tuple(sorted({label for _, label in rows["train"]}))
    unknown = sorted({label for _, label in rows["test"]} - set(label_names))
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise DataError(
            f"{paths['test']} has labels that {paths['train'].name} does not have: {', '.join(unknown[:5])}{more}. "
            "Every test label must occur in the training file. Correct the labels or the split."
        )
    train, test = (
        Split(tuple(text for text, _ in rows[split]), tuple(label_names.index(label) for _, label in rows[split]))
        for split in ("train", "test")
    )
    return Dataset(name, label_names, train, test, sha256, source)


def _parse(content: bytes, path: Path) -> list[tuple[str, str]]:
    try:
        text = content.decode("utf-8-sig")  # spreadsheet programs write a byte-order mark
    except UnicodeDecodeError as error:
        row = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, row {row}: expected UTF-8 text, found other bytes. Save it as UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        if header != COLUMNS:
            raise DataError(f"{path}: expected the columns text,category, found {','.join(header) or 'nothing'}.")
        lines = (row for row in reader if len(row) > 1 or not is_blank("".join(row)))  # without blank lines
        pairs = [_check_row(row, f"{path}, row {reader.line_num}") for row in lines]
    except csv.Error as error:
        where = f"{path}, row {reader.line_num}"
        raise DataError(f"{where}: not valid CSV ({error}). Correct or restore the file.") from error
    if not pairs:
        raise DataError(f"{path}: expected rows below the header, found none. Restore the file.")
    return pairs


def _check_row(row: list[str], where: str) -> tuple[str, str]:
    if len(row) != len(COLUMNS):
        raise DataError(f"{where}: expected 2 columns (text,category), found {len(row)}.")
    text, label = row[0].strip(), row[1].strip()
    if "\0" in text or "\0" in label:
        raise DataError(f"{where}: found a NUL byte. The file is damaged or UTF-16. Save it as UTF-8.")
    if is_blank(text) or is_blank(label):
        raise DataError(f"{where}: the {'text' if is_blank(text) else 'category'} is empty. Fill in or remove the row.")
    return text, label
