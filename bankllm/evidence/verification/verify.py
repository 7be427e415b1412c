"""Verify a run or a trained classifier: recompute every record, and check that no file was changed.

Limits: a hash is not a signature (`attestation/` has those). A person who edits a run can compute new hashes and a new
seal. The numbers of such a run must still follow from its raw rows, fit their units and data sets, and be the same on
every page. Verification cannot detect invented rows, or a false commit or machine.
"""

from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.manifest import MANIFEST, RECORDS, read_manifest
from bankllm.evidence.records import Record
from bankllm.evidence.verification.artifact_checks import check_card, check_named_files
from bankllm.evidence.verification.record_checks import Finding, Verdict, broken, check_records, read_record_lines
from bankllm.evidence.verification.run_checks import check_run, hash_files

TRAINING_FILE = "training.json"
"""A folder with this file is a trained classifier. Repeated here: `bankllm.model.artifact` has it, and evidence is
imported without models. A test compares both."""


def verify(folder: str | Path) -> Verdict:
    """Verifies a finished run or a trained classifier. Raises `RunError` if the folder is neither."""
    folder = Path(folder)
    if (folder / TRAINING_FILE).is_file() and not (folder / MANIFEST).exists():
        records, findings = _check_records(folder)
        return Verdict((*findings, *check_named_files(records, hash_files(folder)[0]), *check_card(folder, records)))
    verdict = check_run(folder)
    return Verdict((*verdict.findings, *_compare_pages(folder))) if verdict.holds else verdict


def require_verified(folder: Path) -> Path:
    """Verifies a run and returns its folder. Raises `RunError` if the run does not verify."""
    if not (verdict := verify(folder)).holds:
        raise RunError(
            f"{folder} {verdict.summary()}. Expected a run that verifies. "
            f"See what is wrong: bankllm verify {folder}. Then fix the run, or choose another."
        )
    return folder


def verify_records(folder: Path) -> Verdict:
    """Verifies only the records of an unfinished run, as notebook 06 does. Raises `RunError` if there are none."""
    return Verdict(_check_records(folder)[1])


def _compare_pages(folder: Path) -> list[Finding]:
    """Renders the pages of a run again, if this code rendered them, and returns a finding for each that differs."""
    from jinja2 import TemplateError

    from bankllm.evidence.report.render import changed_pages, renderer

    if read_manifest(folder).renderer != renderer():
        return []
    try:
        changed = changed_pages(folder)
    except (RunError, AttributeError, LookupError, TypeError, ValueError, TemplateError) as error:
        return [broken("RESULTS.md", f"cannot be rendered again ({type(error).__name__}: {error})")]
    return [broken(name, "differs from the page that these records give") for name in changed]


def _check_records(folder: Path) -> tuple[list[Record], tuple[Finding, ...]]:
    records, findings = read_record_lines(folder) if folder.is_dir() else ([], [])
    if not records and (not findings or not (folder / RECORDS).exists()):
        raise RunError(
            f"{folder} holds no records. Expected a run folder, such as outputs/<run-id>, or the folder of a "
            "classifier that `bankllm train` wrote."
        )
    return records, (*findings, *check_records(folder, records))
