"""Make a number in the only way there is: write rows to a file (`write_rows`), then compute a statistic (`measure`)."""

import contextlib
import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, cast

from bankllm.errors import RunError, explained
from bankllm.evidence.documents import Raw as Raw
from bankllm.evidence.documents import Record as Record
from bankllm.evidence.documents import as_json, parse
from bankllm.evidence.manifest import RECORDS
from bankllm.evidence.raw_files import RawFiles
from bankllm.evidence.record_rules import load_faults, reasons
from bankllm.util.atomic_files import atomic_writer, write_text


def measure(
    folder: Path,
    id: str,
    statistic: str,
    raw: Raw,
    *,
    parameters: Mapping[str, Any],
    conditions: Mapping[str, Any],
    invalid_because: str | None = None,
    **about: Any,
) -> Record:
    """Computes a statistic from a raw file of the run folder; `about` are title, notebook and unit of the record.

    The record is invalid if `invalid_because`, the summary of the load (`record_rules.load_faults`) or the statistic
    gives a reason. Raises `RunError` as `RawFiles.estimate` does.
    """
    about["title"] = one_line(about["title"])
    estimate = vars(RawFiles(folder).estimate(raw, statistic, parameters))
    because = reasons(invalid_because, load_faults(folder, raw.path), estimate["invalid_because"])
    return Record(
        id=id,
        statistic=statistic,
        parameters=dict(parameters),
        raw=raw,
        conditions=dict(conditions),
        valid=because is None,
        **{**about, **estimate, "invalid_because": because},
    )


def not_measured(id: str, *, conditions: Mapping[str, Any], why: str, **about: Any) -> Record:
    """Returns the record of a number that could not be measured; `about` are its title, notebook and unit."""
    about["title"] = one_line(about["title"])
    return Record(
        id=id,
        value=None,
        n=0,
        ci95=None,
        why_no_ci95=None,
        statistic=None,
        parameters={},
        raw=None,
        conditions=dict(conditions),
        valid=False,
        invalid_because=one_line(why) or "no reason was given",
        **about,
    )


def one_line(text: str) -> str:
    """Returns a text, such as the message of an exception, as one line without lone surrogates, as tables show it."""
    return " ".join(text.encode(errors="replace").decode().split())


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes rows with the columns of the first row as CSV; as gzip if the name ends in `.gz`.

    The same rows always give the same bytes. Raises `RunError` if there are no rows or the file cannot be written.
    """
    iterator: Iterator[Mapping[str, object]] = iter(rows)
    first = next(iterator, None)
    if first is None:
        raise RunError(f"No rows to write to {path.name}. Expected at least one row.")
    with contextlib.ExitStack() as stack:
        file: BinaryIO = stack.enter_context(atomic_writer(path))
        if path.suffix == ".gz":
            file = cast(BinaryIO, stack.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0)))
        text = TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(text, fieldnames=list(first), lineterminator="\n")
        writer.writeheader()
        writer.writerow(first)
        writer.writerows(iterator)
        text.flush()
        text.detach()  # the exit stack closes the file


def read_records(folder: Path) -> list[Record]:
    """Reads `records.jsonl`; empty if there is no file. Raises `RunError` with the number of an invalid line."""
    path = folder / RECORDS
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        fault, causes = f"{path.name}, line {number}: not a measurement record", (ValueError, RecursionError)
        with explained(RunError, fault, "The file was edited or truncated; repeat the run.", causes):
            records.append(parse(line, Record))
    return records


def write_records(folder: Path, records: Iterable[Record]) -> None:
    write_text(folder / RECORDS, "".join(f"{as_json(record)}\n" for record in records))
