"""Check each record of a run: recompute it from its raw file, and apply the rules for its validity, unit and data."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bankllm.errors import RunError, explained
from bankllm.evidence.documents import Record, parse
from bankllm.evidence.manifest import RECORDS
from bankllm.evidence.raw_files import RawFiles, inside
from bankllm.evidence.record_rules import contradiction, exclusions, load_faults, reasons
from bankllm.evidence.statistics.statistic import Estimate

RELATIVE_TOLERANCE = 1e-9
"""Tolerance between a recorded and a recomputed value: only the last digits of a float may differ."""
MAX_TEXT_BYTES = 64 * 2**20
"""Maximum size of a file that is read as a whole; the limits of raw files are in `raw_files`."""

Status = Literal["ok", "invalid", "not measured", "does not hold"]


@dataclass(frozen=True)
class Finding:
    """The result of checking one record or one file: `subject` is its id or its path in the run folder."""

    subject: str
    status: Status
    detail: str

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong. An invalid or unmeasured record holds if it says so itself."""
        return self.status != "does not hold"


@dataclass(frozen=True)
class Verdict:
    """The findings of a whole run."""

    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)

    def counts(self) -> dict[str, int]:
        return {status: sum(one.status == status for one in self.findings) for status in get_args(Status)}

    def summary(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        return f"{'HOLDS' if self.holds else 'DOES NOT HOLD'}: {counts}"


def broken(subject: str, detail: str) -> Finding:
    return Finding(subject, "does not hold", detail)


def read_text(folder: Path, name: str) -> str:
    """Reads a UTF-8 text file of the run, up to `MAX_TEXT_BYTES`. Raises `RunError` if it cannot be read."""
    path = inside(folder, name)
    with explained(RunError, f"{name} cannot be read", "Expected UTF-8 text.", (OSError, UnicodeDecodeError)):
        if not path.is_file():
            raise RunError(f"{name} is missing.")
        if (size := path.stat().st_size) > MAX_TEXT_BYTES:
            raise RunError(f"{name} has {size // 2**20} MiB. Expected at most {MAX_TEXT_BYTES // 2**20} MiB.")
        return path.read_bytes().decode("utf-8")


def read_record_lines(folder: Path) -> tuple[list[Record], list[Finding]]:
    """Reads `records.jsonl`. Returns the records, and a finding for each line that is not a record."""
    try:
        lines = read_text(folder, RECORDS).removesuffix("\n").split("\n")
    except RunError as error:
        return [], [broken(RECORDS, str(error))]
    records, findings = [], []
    for number, line in enumerate(lines if lines != [""] else (), start=1):
        try:
            records.append(parse(line, Record))
        except (ValueError, RecursionError) as error:
            findings.append(broken(f"{RECORDS}, line {number}", f"not a measurement record: {error}"))
    return records, findings


def check_records(folder: Path, records: Sequence[Record], hashes: Mapping[str, str] | None = None) -> list[Finding]:
    """Returns one finding per record in the same order, then one per duplicate id, then one per lost exclusion.

    `hashes` are those of the raw files, if they are known.
    """
    files = RawFiles(folder, hashes)
    excluded = exclusions(folder)
    by_file = sorted(range(len(records)), key=lambda i: ((raw := records[i].raw) and raw.path) or "")
    findings = {i: check_record(files, records[i], excluded.get(records[i].id)) for i in by_file}
    ids = [record.id for record in records]
    repeated = [broken(id, "is in records.jsonl more than once") for id in dict.fromkeys(ids) if ids.count(id) > 1]
    unrecorded = {id: why for id, why in excluded.items() if id not in ids}
    lost = [broken(id, f"is excluded by a file in raw/ ({why}), but has no record") for id, why in unrecorded.items()]
    return [*(findings[i] for i in range(len(records))), *repeated, *lost]


def check_record(files: RawFiles, record: Record, mark: str | None) -> Finding:
    """Recomputes one record and applies every rule; `mark` is the reason why its notebook excluded it."""
    if record.raw is None or record.statistic is None:
        if record.value is not None or record.valid or record.raw or record.statistic or record.ci95:
            return broken(record.id, "has a value without a raw file and a statistic")
        if not record.invalid_because:
            return broken(record.id, "is not measured and gives no reason (invalid_because)")
        return Finding(record.id, "not measured", record.invalid_because)
    try:
        recomputed = files.estimate(record.raw, record.statistic, record.parameters)
        because = reasons(mark, load_faults(files.folder, record.raw.path), recomputed.invalid_because)
    except RunError as error:
        return broken(record.id, str(error))
    if problem := _difference(record, recomputed, because) or contradiction(record):
        return broken(record.id, problem)
    if because:
        return Finding(record.id, "invalid", because)
    return Finding(record.id, "ok", f"{recomputed.value:g} {record.unit} from {recomputed.n} rows of {record.raw.path}")


def _difference(record: Record, recomputed: Estimate, because: str | None) -> str | None:
    """Describes the first difference between a record and what was found: its estimate, and why it is invalid."""
    for what, old, new in (
        ("value", record.value, recomputed.value),
        ("lower end of the interval", (record.ci95 or (None,))[0], (recomputed.ci95 or (None,))[0]),
        ("upper end of the interval", (record.ci95 or (None,))[-1], (recomputed.ci95 or (None,))[-1]),
        ("n", record.n, recomputed.n),
    ):
        if (old is None) != (new is None) or not math.isclose(old or 0, new or 0, rel_tol=RELATIVE_TOLERANCE):
            return f"{what}: recorded {old}, recomputed {new}"
    if record.why_no_ci95 != recomputed.why_no_ci95:
        return f"why_no_ci95: recorded {record.why_no_ci95!r}, recomputed {recomputed.why_no_ci95!r}"
    if because and record.valid:
        return f"recorded as valid, but {because}"
    if record.invalid_because != because:
        return f"invalid_because: recorded {record.invalid_because!r}, found {because!r}"
    if record.valid == bool(because):
        return "recorded as invalid, but no reason was found"
    return None


def changed_files(listed: Mapping[str, str], hashes: Mapping[str, str], why: str) -> Iterator[Finding]:
    """Yields a finding for each file without its listed sha256; `why` says where that hash comes from."""
    for name, expected in sorted(listed.items()):
        if (found := hashes.get(name)) is None:
            yield broken(name, f"{why}, but it is missing")
        elif found != expected:
            yield broken(name, f"expected sha256 {expected[:12]}…, found {found[:12]}…")
