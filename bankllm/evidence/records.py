"""The measurement record, and the raw rows it is computed from.

One way leads to a number: write rows (`write_rows`), then apply a named statistic to the file
(`compute`). Whoever has the file can do it again; `bankllm verify` does.
"""

import contextlib
import csv
import gzip
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bankllm.errors import RunError
from bankllm.evidence.csv_table import Table
from bankllm.evidence.recompute import RawFiles
from bankllm.evidence.recompute import sha256_file as sha256_file
from bankllm.evidence.statistics.estimate import Estimate
from bankllm.evidence.validity_marks import load_faults, reasons
from bankllm.util.atomic_files import atomic_writer


class Raw(BaseModel):
    """The rows behind a record: a CSV file of the run, plain or gzip, and which of its rows count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Relative to the run's folder, with forward slashes."""
    sha256: str
    where: dict[str, str] = {}
    """Only rows that hold these values, compared as text."""


class Record(BaseModel):
    """One measured (or not measured) number. See the contract in DESIGN: every field stands in `records.jsonl`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    id: str
    """Dotted, e.g. `chat.c100.p95_ms`."""
    title: str
    """For people, e.g. `Chat latency, p95`."""
    notebook: str
    value: float | None
    unit: str
    n: int = Field(ge=0)
    ci95: tuple[float, float] | None
    why_no_ci95: str | None
    statistic: str | None
    """A name in `STATISTICS`; None where nothing was measured."""
    parameters: dict[str, Any]
    """Keyword arguments of the statistic."""
    raw: Raw | None
    conditions: dict[str, Any]
    valid: bool
    invalid_because: str | None

    @property
    def status(self) -> str:
        """`measured`, `invalid`, or `not measured`."""
        if self.raw is None:
            return "not measured"
        return "measured" if self.valid else "invalid"


def measure(
    folder: Path,
    id: str,
    statistic: str,
    raw: Raw,
    *,
    title: str,
    notebook: str,
    unit: str,
    parameters: Mapping[str, Any],
    conditions: Mapping[str, Any],
    invalid_because: str | None = None,
) -> Record:
    """The record of a statistic applied to a raw file of `folder`; what `validity` finds wanting makes it invalid.

    Raises `RunError` where the rows do not fit.
    """
    estimate = compute(folder, raw, statistic, parameters)
    because = reasons(invalid_because, load_faults(folder, raw.path), estimate.invalid_because)
    return Record(
        id=id,
        title=title,
        notebook=notebook,
        value=estimate.value,
        unit=unit,
        n=estimate.n,
        ci95=estimate.ci95,
        why_no_ci95=estimate.why_no_ci95,
        statistic=statistic,
        parameters=dict(parameters),
        raw=raw,
        conditions=dict(conditions),
        valid=because is None,
        invalid_because=because,
    )


def not_measured(id: str, *, title: str, notebook: str, unit: str, conditions: Mapping[str, Any], why: str) -> Record:
    """The record of a number that could not be had, and why."""
    return Record(
        id=id,
        title=title,
        notebook=notebook,
        value=None,
        unit=unit,
        n=0,
        ci95=None,
        why_no_ci95=None,
        statistic=None,
        parameters={},
        raw=None,
        conditions=dict(conditions),
        valid=False,
        invalid_because=why,
    )


def compute(folder: Path, raw: Raw, statistic: str, parameters: Mapping[str, Any]) -> Estimate:
    """Apply a statistic to a raw file. Raises `RunError` where the file or a column is not what the record says."""
    return RawFiles(folder).estimate(raw.path, raw.sha256, raw.where, statistic, parameters)


def read_rows(folder: Path, raw: Raw) -> Table:
    """The rows of a raw file, plain or gzip, that count.

    Raises `RunError` if the file left the folder, is missing, was changed or cannot be read.
    """
    return RawFiles(folder).rows(raw.path, raw.sha256, raw.where, None)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write rows as CSV, whole or not at all; as gzip where the name ends in `.gz`, equal rows as equal bytes.

    Columns are the first row's; floats keep every digit.
    """
    iterator: Iterator[Mapping[str, object]] = iter(rows)
    first = next(iterator, None)
    if first is None:
        raise RunError(f"No rows to write to {path.name}. A measurement needs at least one.")
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
        text.detach()  # the file is closed by its own writer


def write_text(path: Path, text: str) -> None:
    """Write a small text file, whole or not at all."""
    with atomic_writer(path) as file:
        file.write(text.encode("utf-8"))


def read_records(folder: Path) -> list[Record]:
    """Every record of a run; none where the file is not there yet. Raises `RunError` naming an unreadable line."""
    path = folder / "records.jsonl"
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise RunError(
                f"{path.name}, line {number}: not a measurement record ({fault['msg']} at "
                f"{'.'.join(map(str, fault['loc'])) or 'the line'}). The run was edited or cut short; run it again."
            ) from error
    return records


def write_records(folder: Path, records: Iterable[Record]) -> None:
    """Write `records.jsonl`, whole or not at all."""
    write_text(folder / "records.jsonl", "".join(record.model_dump_json() + "\n" for record in records))
