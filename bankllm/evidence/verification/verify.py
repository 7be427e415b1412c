"""Recompute every record of a run, or of a trained classifier, and check that no file was changed since.

`bankllm verify outputs/<run-id>` prints one line a record and exits 1 if any does not hold; a folder that a training
wrote carries its own records, weights' hashes and model card, and is checked the same way.

What this cannot find: a hash is no signature. Who changes a run and makes its hashes and seal anew has made another
run; its numbers must still follow from its rows, fit their units and data sets, and stand alike on every page. Rows
that were invented, and a commit or machine that was never used, look like any other.
"""

from pathlib import Path
from typing import cast

from bankllm.errors import RunError
from bankllm.evidence.report.claims import CLAIM, check_claims
from bankllm.evidence.seal import MANIFEST
from bankllm.evidence.verification.record_checks import (
    Finding,
    RecordDocument,
    Verdict,
    broken,
    check_records,
    read_record_documents,
)
from bankllm.evidence.verification.run_checks import check_run, file_fault
from bankllm.evidence.verification.schemas import load_schemas

TRAINING_FILE = "training.json"
"""Marks a trained classifier; the name is `bankllm.model.torch_classifier`'s, whose import would load torch."""
CARD = "README.md"


def verify(folder: str | Path) -> Verdict:
    """Check a finished run (its records, its pages and every file of its folder), or a trained classifier.

    Raises `RunError` where there is neither.
    """
    folder = Path(folder)
    if (folder / TRAINING_FILE).is_file() and not (folder / MANIFEST).exists():
        return _verify_artifact(folder)
    return check_run(folder, load_schemas())


def verify_records(folder: Path) -> Verdict:
    """Check the records alone, as notebook 06 does before the run is finished. Raises `RunError` if there are none."""
    return Verdict(_check(folder)[1])


def _check(folder: Path) -> tuple[list[RecordDocument], tuple[Finding, ...]]:
    records, findings = read_record_documents(folder, load_schemas()["record"]) if folder.is_dir() else ([], [])
    if not records and (not findings or not (folder / "records.jsonl").exists()):
        raise RunError(
            f"{folder} holds no records. Expected the folder of a run, such as outputs/<run-id>, or of a classifier "
            "that `bankllm train` wrote."
        )
    return records, (*findings, *check_records(folder, records))


def _verify_artifact(folder: Path) -> Verdict:
    """Records, the weights that they speak of, and the model card."""
    records, found = _check(folder)
    findings = [*found]
    files = {name: sha256 for record in records for name, sha256 in record.conditions.get("files", {}).items()}
    if not files:
        findings.append(broken(TRAINING_FILE, "no record says of which weights it speaks"))
    for name, expected in sorted(files.items()):
        if problem := file_fault(folder, name, expected, "the records speak of it"):
            findings.append(broken(name, problem))
    return Verdict((*findings, *_check_card(folder, records)))


def _check_card(folder: Path, records: list[RecordDocument]) -> list[Finding]:
    """Numbers in the card's `model-index` equal the records digit by digit; those in its text read as they do."""
    from huggingface_hub import ModelCard, ModelCardData
    from yaml import YAMLError

    path = folder / CARD
    try:
        text = path.read_text(encoding="utf-8")
        results = cast(ModelCardData, ModelCard(text).data).eval_results or []
        faults = check_claims(path, folder)
    except (RunError, ValueError, OSError, YAMLError) as error:
        return [broken(CARD, f"the model card cannot be read ({type(error).__name__}: {error})")]
    measured = {record.title: record.value for record in records if record.raw and record.valid}
    for result in results:
        if (value := measured.get(result.metric_name or "")) != result.metric_value:
            faults.append(f"model-index says {result.metric_name} {result.metric_value}, the records {value}")
    if faults:
        return [broken(CARD, fault) for fault in faults]
    numbers = len(results) + len(CLAIM.findall(text))
    return [Finding(CARD, "ok", f"{numbers} numbers equal their records")]
