"""Recompute every record of a run, or of a trained classifier, and check that no file was changed since.

`bankllm verify outputs/<run-id>` prints one line a record and exits 1 if any does not hold; a folder that a training
wrote carries its own records, weights' hashes and model card, and is checked the same way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from bankllm.errors import RunError
from bankllm.evidence.claims import CLAIM, check_claims
from bankllm.evidence.manifest import MANIFEST, read_manifest
from bankllm.evidence.records import Record, compute, read_records, sha256_file

RELATIVE_TOLERANCE = 1e-9
"""Between a recorded and a recomputed value: nothing but the last digits of a float may differ."""

TRAINING_FILE = "training.json"
"""Marks a trained classifier; the name is `bankllm.classifier`'s, whose import would load torch."""
CARD = "README.md"

Status = Literal["ok", "does not hold", "invalid", "not measured"]


@dataclass(frozen=True)
class Finding:
    """What became of one record, or of one file of the manifest."""

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


def verify(folder: str | Path) -> Verdict:
    """Check a finished run (its records and every file that the manifest lists), or a trained classifier.

    Raises `RunError` where there is neither.
    """
    folder = Path(folder)
    if (folder / TRAINING_FILE).is_file() and not (folder / MANIFEST).exists():
        return _verify_artefact(folder)
    manifest = read_manifest(folder)
    findings = [*verify_records(folder).findings]
    if not manifest.files:
        findings.append(Finding("manifest.json", "does not hold", "the run did not finish; resume it"))
    for name, expected in sorted(manifest.files.items()):
        findings += _check_file(folder, name, expected)
    return Verdict(tuple(findings))


def verify_records(folder: Path) -> Verdict:
    """Check the records alone, as notebook 06 does before the run is finished."""
    records = read_records(folder)
    if not records:
        raise RunError(
            f"{folder} holds no records. Expected the folder of a run, such as outputs/<run-id>, or of a classifier "
            "that `bankllm train` wrote."
        )
    return Verdict((*(_check(folder, record) for record in records), *_repeated(records)))


def _verify_artefact(folder: Path) -> Verdict:
    """Records, the weights that they speak of, and the model card."""
    findings = [*verify_records(folder).findings]
    records = read_records(folder)
    files = {name: sha256 for record in records for name, sha256 in record.conditions.get("files", {}).items()}
    if not files:
        findings.append(Finding(TRAINING_FILE, "does not hold", "no record says of which weights it speaks"))
    for name, expected in sorted(files.items()):
        findings += _check_file(folder, name, expected, "the records speak of it")
    return Verdict((*findings, *_check_card(folder, records)))


def _check_card(folder: Path, records: Sequence[Record]) -> list[Finding]:
    """Numbers in the card's `model-index` equal the records digit by digit; those in its text read as they do."""
    from huggingface_hub import ModelCard, ModelCardData
    from yaml import YAMLError

    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
        results = cast(ModelCardData, ModelCard(text).data).eval_results or []
        faults = check_claims(path, folder)
    except (RunError, ValueError, OSError, YAMLError) as error:
        return [Finding(CARD, "does not hold", f"the model card cannot be read ({type(error).__name__}: {error})")]
    measured = {record.title: record.value for record in records if record.status == "measured"}
    for result in results:
        if (value := measured.get(result.metric_name or "")) != result.metric_value:
            faults.append(f"model-index says {result.metric_name} {result.metric_value}, the records {value}")
    if faults:
        return [Finding(CARD, "does not hold", fault) for fault in faults]
    numbers = len(results) + len(CLAIM.findall(text))
    return [Finding(CARD, "ok", f"{numbers} numbers equal their records")]


def _check(folder: Path, record: Record) -> Finding:
    if record.raw is None or record.statistic is None:
        if record.value is not None or record.valid:
            return Finding(record.id, "does not hold", "carries a value without a raw file and a statistic")
        return Finding(record.id, "not measured", record.invalid_because or "no reason given")
    try:
        again = compute(folder, record.raw, record.statistic, record.parameters)
    except RunError as error:
        return Finding(record.id, "does not hold", str(error))
    for what, recorded, recomputed in (
        ("value", record.value, again.value),
        ("lower end of the interval", (record.ci95 or (None,))[0], (again.ci95 or (None,))[0]),
        ("upper end of the interval", (record.ci95 or (None,))[-1], (again.ci95 or (None,))[-1]),
        ("n", record.n, again.n),
    ):
        if not _same(recorded, recomputed):
            return Finding(record.id, "does not hold", f"{what}: recorded {recorded}, recomputed {recomputed}")
    if again.invalid_because and record.valid:
        return Finding(record.id, "does not hold", f"recorded as valid, but {again.invalid_because}")
    if not record.valid:
        return Finding(record.id, "invalid", record.invalid_because or "no reason given")
    return Finding(record.id, "ok", f"{again.value:g} {record.unit} from {again.n} rows of {record.raw.path}")


def _same(recorded: float | None, recomputed: float | None) -> bool:
    if recorded is None or recomputed is None:
        return recorded is recomputed
    return math.isclose(recorded, recomputed, rel_tol=RELATIVE_TOLERANCE)


def _repeated(records: Sequence[Record]) -> list[Finding]:
    seen: set[str] = set()
    repeated = []
    for record in records:
        if record.id in seen:
            repeated.append(Finding(record.id, "does not hold", "stands in records.jsonl more than once"))
        seen.add(record.id)
    return repeated


def _check_file(folder: Path, name: str, expected: str, why: str = "the manifest lists it") -> list[Finding]:
    """A finding for a file that is not what the manifest (or a record) says; nothing where all is well."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        return [Finding(name, "does not hold", f"{why}, but it lies outside the run's folder")]
    if not path.is_file():
        return [Finding(name, "does not hold", f"{why}, but it is missing")]
    if (found := sha256_file(path)) != expected:
        return [Finding(name, "does not hold", f"expected sha256 {expected[:12]}…, found {found[:12]}…")]
    return []
