"""The measurement record and the raw rows that it is computed from.

There is only one way to make a number: write rows to a file (`write_rows`), then compute a named statistic from the
file (`measure`). The contract of a record:

- A record is one line of `records.jsonl`: a JSON object with every field of `Record`. Its id is unique in the run.
- For a measured record, `value`, `n`, `ci95` and `why_no_ci95` are what `statistic(rows, **parameters)` returns. `rows`
  are the rows of `raw.path` that have the values of `raw.where`, and `raw.sha256` is the hash of that file.
- If `ci95` is null, `why_no_ci95` or `invalid_because` gives the reason.
- `valid` is false if and only if `invalid_because` is set. The reasons come from the notebook, the load generator
  (`validity_marks`) or the statistic, for example too few samples. The value of an invalid record must not be used.
- A number that could not be measured has no `raw`, `statistic`, `value` or `ci95`, is not valid, and says why.
- `unit`, `id` and `conditions` pass the rules of `known_facts`.
- Unknown keys are rejected. A change that old readers cannot read raises `schema_version`.

`bankllm verify` checks all of this. The JSON Schema is `verification/schema/record.v1.json`.
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
    """The source rows of a record: a CSV file of the run, plain or gzip, and a selection of its rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Relative to the run folder, with forward slashes."""
    sha256: str
    where: dict[str, str] = {}
    """Column → value; only rows with all these values are used, compared as text. Empty: all rows."""


class Record(BaseModel):
    """One number of a run, measured or not measured: one line of `records.jsonl`.

    `value`, `n`, `ci95` and `why_no_ci95` are what `statistic`, with `parameters`, returns for the rows of `raw`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    id: str
    """Dotted, e.g. `chat.c100.p95_ms`."""
    title: str
    """Text for readers, e.g. `Chat latency, p95`."""
    notebook: str
    """Name of the notebook that made the record. Its raw files begin with the same two digits."""
    value: float | None
    """None if nothing was measured, or if there are too few samples."""
    unit: str
    """Unit of `value` and `ci95`, e.g. `ms`, `s`, `bytes`, `requests/s`, or `share` (0 … 1)."""
    n: int = Field(ge=0)
    """Number of samples, as the statistic counts them."""
    ci95: tuple[float, float] | None
    """95 % confidence interval."""
    why_no_ci95: str | None
    """Why a measured record has no interval."""
    statistic: str | None
    """A name in `statistics.registry.STATISTICS`; None if nothing was measured."""
    parameters: dict[str, Any]
    """Keyword arguments of the statistic."""
    raw: Raw | None
    """None if nothing was measured."""
    conditions: dict[str, Any]
    """What the number depends on: profile, host, data set, model and settings. Two runs must agree to be compared."""
    valid: bool
    invalid_because: str | None
    """Why the value must not be used, or why it was not measured."""

    @property
    def status(self) -> str:
        """One of `measured`, `invalid` and `not measured`."""
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
    """Computes a statistic from a raw file of the run folder and returns the record.

    The record is invalid if `invalid_because` is given, if the summary of the load excludes its rows
    (`validity_marks.load_faults`), or if the statistic cannot be computed from these rows, e.g. too few samples.
    Raises `RunError` if the file was changed, or if the rows do not fit the statistic.
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
    """Returns the record of a number that could not be measured."""
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
    """Computes a statistic from a raw file. Raises `RunError` if the file was changed, or the rows do not fit."""
    return RawFiles(folder).estimate(raw.path, raw.sha256, raw.where, statistic, parameters)


def read_rows(folder: Path, raw: Raw) -> Table:
    """Reads the selected rows of a raw file, plain or gzip, with all columns.

    Raises `RunError` if the file is outside the folder, is missing, has another sha256, or cannot be read.
    """
    return RawFiles(folder).rows(raw.path, raw.sha256, raw.where, None)


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes rows as CSV atomically; as gzip if the name ends in `.gz`.

    The columns are those of the first row. Floats are written with every digit, and the same rows always give the same
    bytes. Raises `RunError` if there are no rows or the file cannot be written.
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


def write_text(path: Path, text: str) -> None:
    """Writes a small UTF-8 text file atomically."""
    with atomic_writer(path) as file:
        file.write(text.encode("utf-8"))


def read_records(folder: Path) -> list[Record]:
    """Reads `records.jsonl`; empty if there is no file. Raises `RunError` with the number of an invalid line."""
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
                f"{'.'.join(map(str, fault['loc'])) or 'the line'}). The file was edited or truncated; repeat the run."
            ) from error
    return records


def write_records(folder: Path, records: Iterable[Record]) -> None:
    """Writes `records.jsonl` atomically."""
    write_text(folder / "records.jsonl", "".join(record.model_dump_json() + "\n" for record in records))
