"""Check each record of a run: recompute it, and apply every rule that says whether it counts.

Standard library alone: `bankllm verify` and every run's own `verify.py` are this code.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from bankllm.errors import RunError
from bankllm.evidence.csv_table import inside
from bankllm.evidence.known_facts import data_fault, model_fault, name_fault, unit_fault
from bankllm.evidence.recompute import RawFiles, needed_columns
from bankllm.evidence.statistics.estimate import Estimate
from bankllm.evidence.validity_marks import exclusions, load_faults, reasons
from bankllm.evidence.verification.json_schema import parse_json, validate

RELATIVE_TOLERANCE = 1e-9
"""Between a recorded and a recomputed value: nothing but the last digits of a float may differ."""
TEXT_BYTES = 64 * 2**20
"""The most that a file other than raw rows may hold to be read."""
RECORDS = "records.jsonl"

Status = Literal["ok", "does not hold", "invalid", "not measured"]


@dataclass(frozen=True)
class Finding:
    """What became of one record, or of one file of the run."""

    subject: str
    status: Status
    detail: str

    @property
    def holds(self) -> bool:
        return self.status != "does not hold"


@dataclass(frozen=True)
class Verdict:
    """All findings of a run."""

    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)

    def count(self, status: Status) -> int:
        return sum(finding.status == status for finding in self.findings)

    def summary(self) -> str:
        counts = ", ".join(f"{self.count(s)} {s}" for s in ("ok", "invalid", "not measured", "does not hold"))
        return f"{'HOLDS' if self.holds else 'DOES NOT HOLD'}: {counts}"


@dataclass(frozen=True)
class RawReference:
    """`raw` of a record."""

    path: str
    sha256: str
    where: Mapping[str, str]


@dataclass(frozen=True)
class RecordDocument:
    """A line of `records.jsonl` that fits the schema; the fields are `records.Record`'s."""

    id: str
    title: str
    notebook: str
    value: float | None
    unit: str
    n: int
    ci95: tuple[float, float] | None
    why_no_ci95: str | None
    statistic: str | None
    parameters: Mapping[str, Any]
    raw: RawReference | None
    conditions: Mapping[str, Any]
    valid: bool
    invalid_because: str | None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "RecordDocument":
        known = {field.name: document[field.name] for field in fields(cls)}
        raw = known["raw"]
        return cls(**known | {"raw": raw and RawReference(raw["path"], raw["sha256"], raw.get("where", {}))})


def broken(subject: str, detail: str) -> Finding:
    """A finding that something does not hold."""
    return Finding(subject, "does not hold", detail)


def read_text(folder: Path, name: str) -> str:
    """A small text file of the run. Raises `RunError` where it cannot be read as such."""
    path = inside(folder, name)
    try:
        if not path.is_file():
            raise RunError(f"{name} is missing.")
        if (size := path.stat().st_size) > TEXT_BYTES:
            raise RunError(f"{name} holds {size // 2**20} MiB; expected {TEXT_BYTES // 2**20} MiB at most.")
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{name} cannot be read as UTF-8 text ({error}).") from error


def newer(document: Any, read: int = 1) -> str | None:
    """What to do about a document of a later schema; None where it is not."""
    version = document.get("schema_version", read) if isinstance(document, dict) else read
    if isinstance(version, int) and not isinstance(version, bool) and version > read:
        return (
            f"was written by a newer bankllm (schema {version}, this one reads {read}); "
            "update bankllm, or run the verify.py in the run's folder"
        )
    return None


def read_record_documents(folder: Path, schema: Mapping[str, Any]) -> tuple[list[RecordDocument], list[Finding]]:
    """The records that can be read, and a finding for each line that cannot."""
    try:
        lines = read_text(folder, RECORDS).split("\n")
    except RunError as error:
        return [], [broken(RECORDS, str(error))]
    records, findings = [], []
    for number, line in enumerate(lines, start=1):
        if not line and number == len(lines):
            continue
        try:
            document = parse_json(line)
            problem = newer(document) or validate(document, schema)
        except (ValueError, RecursionError) as error:
            problem = f"not JSON ({error})"
        if problem:
            findings.append(broken(f"{RECORDS}, line {number}", f"not a measurement record: {problem}"))
        else:
            records.append(RecordDocument.from_document(document))
    return records, findings


def check_records(folder: Path, records: Sequence[RecordDocument]) -> list[Finding]:
    """One finding a record, in their order, and one for each id that stands twice."""
    wanted: dict[str, set[str]] = {}
    for record in records:
        if record.raw and record.statistic:
            columns = needed_columns(record.statistic, record.parameters)
            wanted.setdefault(record.raw.path, set()).update(columns, record.raw.where)
    files = RawFiles(folder, wanted)
    marked = exclusions(folder)
    by_file = sorted(range(len(records)), key=lambda i: ((raw := records[i].raw) and raw.path) or "")
    found = {i: check_record(files, records[i], marked.get(records[i].id)) for i in by_file}
    ids = [record.id for record in records]
    repeated = [broken(id, "stands in records.jsonl more than once") for id in dict.fromkeys(ids) if ids.count(id) > 1]
    lost = [
        broken(id, f"is marked invalid in raw/ ({why}), and no record says so")
        for id, why in marked.items()
        if id not in ids
    ]
    return [*(found[i] for i in range(len(records))), *repeated, *lost]


def check_record(files: RawFiles, record: RecordDocument, mark: str | None) -> Finding:
    """Recompute one record; `mark` is why its notebook forbade its use."""
    if record.raw is None or record.statistic is None:
        if record.value is not None or record.valid or record.raw or record.statistic or record.ci95:
            return broken(record.id, "carries a value without a raw file and a statistic")
        if not record.invalid_because:
            return broken(record.id, "is not measured and does not say why")
        return Finding(record.id, "not measured", record.invalid_because)
    raw = record.raw
    try:
        again = files.estimate(raw.path, raw.sha256, raw.where, record.statistic, record.parameters)
        because = reasons(mark, load_faults(files.folder, raw.path), again.invalid_because)
    except RunError as error:
        return broken(record.id, str(error))
    problem = (
        _unlike(record, again)
        or _validity_fault(record, because)
        or unit_fault(record.statistic, record.parameters, record.unit)
        or name_fault(record.id, record.parameters)
        or data_fault(record.conditions)
        or model_fault(record.conditions)
        or _foreign(record)
    )
    if problem:
        return broken(record.id, problem)
    if because:
        return Finding(record.id, "invalid", because)
    return Finding(record.id, "ok", f"{again.value:g} {record.unit} from {again.n} rows of {raw.path}")


def _unlike(record: RecordDocument, again: Estimate) -> str | None:
    for what, recorded, recomputed in (
        ("value", record.value, again.value),
        ("lower end of the interval", (record.ci95 or (None,))[0], (again.ci95 or (None,))[0]),
        ("upper end of the interval", (record.ci95 or (None,))[-1], (again.ci95 or (None,))[-1]),
        ("n", record.n, again.n),
    ):
        if not _same(recorded, recomputed):
            return f"{what}: recorded {recorded}, recomputed {recomputed}"
    if record.why_no_ci95 != again.why_no_ci95:
        return f"why there is no interval: recorded {record.why_no_ci95!r}, recomputed {again.why_no_ci95!r}"
    return None


def _validity_fault(record: RecordDocument, because: str | None) -> str | None:
    if because and record.valid:
        return f"recorded as valid, but {because}"
    if record.invalid_because != because:
        return f"invalid because {record.invalid_because!r} is recorded, {because!r} found"
    if record.valid == bool(because):
        return "recorded as invalid, and nothing says why"
    return None


def _foreign(record: RecordDocument) -> str | None:
    """Raw files of a run carry their notebook's number."""
    name = (record.raw.path if record.raw else "").rpartition("/")[2]
    if name[:2].isdigit() and name[2:3] == "_" and name[:2] != record.notebook[:2]:
        return f"is said to come from notebook {record.notebook}, its rows from {name[:2]}"
    return None


def _same(recorded: float | None, recomputed: float | None) -> bool:
    if recorded is None or recomputed is None:
        return recorded is recomputed
    return math.isclose(recorded, recomputed, rel_tol=RELATIVE_TOLERANCE)
