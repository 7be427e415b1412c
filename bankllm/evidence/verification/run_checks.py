"""Check a whole run: its records, pages and manifest, and that its files are exactly those that the manifest lists.

Standard library only: this module is the entry point of the `verify.py` that every run contains.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bankllm.errors import RunError
from bankllm.evidence.csv_table import inside
from bankllm.evidence.recompute import sha256_file
from bankllm.evidence.seal import MANIFEST, data_of, models_of, seal_of
from bankllm.evidence.verification.json_schema import parse_json, validate
from bankllm.evidence.verification.page_checks import check_pages
from bankllm.evidence.verification.record_checks import (
    Finding,
    RecordDocument,
    Verdict,
    broken,
    check_records,
    newer,
    read_record_documents,
    read_text,
)


def check_run(folder: Path, schemas: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Checks a finished run against the JSON Schemas and its own files. Raises `RunError` if there is no manifest."""
    if not (folder / MANIFEST).is_file():
        raise RunError(
            f"{folder} is not a run: {MANIFEST} is missing. Expected a run folder, outputs/<run-id>; the file "
            "outputs/LATEST names the newest complete run."
        )
    records, findings = read_record_documents(folder, schemas["record"])
    try:
        findings += check_records(folder, records)
    except RunError as error:
        findings.append(broken("raw", str(error)))
    manifest, faults = _read_manifest(folder, schemas["manifest"])
    findings += [broken(MANIFEST, problem) for problem in faults]
    present, irregular = _list_files(folder)
    findings += irregular
    findings += check_pages(folder, sorted(present), records)
    if manifest is None:
        return Verdict(tuple(findings))
    if not manifest["files"]:
        findings.append(
            broken(
                MANIFEST,
                f"lists no files: the run did not finish. Continue with: bankllm run --resume {manifest['run_id']}",
            )
        )
        return Verdict(tuple(findings))
    findings += [broken(MANIFEST, problem) for problem in _disagreements(manifest, records)]
    findings += _check_files(folder, manifest["files"], present)
    return Verdict(tuple(findings))


def lines(verdict: Verdict) -> Iterator[str]:
    """Yields one line per finding, then the summary."""
    width = max((len(finding.subject) for finding in verdict.findings), default=0)
    for finding in verdict.findings:
        yield f"{finding.status:<13}  {finding.subject:<{width}}  {finding.detail}"
    yield verdict.summary()


def as_json(verdict: Verdict) -> str:
    """Returns the verdict as JSON: `holds`, and `findings` with `subject`, `status` and `detail` each."""
    findings = [vars(finding) for finding in verdict.findings]
    return json.dumps({"holds": verdict.holds, "findings": findings}, indent=2)


def main(folder: Path, schemas: Mapping[str, Mapping[str, Any]], arguments: Sequence[str]) -> int:
    """Runs `python3 RUN_DIR/verify.py [--json]`. Returns the exit code: 0 verified, 1 not verified, 2 wrong usage."""
    if set(arguments) - {"--json"}:
        print("usage: python3 RUN_DIR/verify.py [--json]", file=sys.stderr)
        return 2
    try:
        verdict = check_run(folder, schemas)
    except RunError as error:
        print(error, file=sys.stderr)
        return 1
    print(as_json(verdict) if arguments else "\n".join(lines(verdict)))
    return 0 if verdict.holds else 1


def _read_manifest(folder: Path, schema: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Returns the manifest (None if it cannot be used) and its faults."""
    try:
        text = read_text(folder, MANIFEST)
        document = parse_json(text)
        problem = newer(document) or validate(document, schema)
    except (RunError, ValueError, RecursionError) as error:
        return None, [f"cannot be read ({error})"]
    if problem:
        return None, [problem]
    seal = document.get("seal")
    if document.get("files") and (not seal or seal_of(text.encode("utf-8"), seal) != seal):
        return document, ["was edited after the run was sealed: the seal does not match the content"]
    return document | {"files": document.get("files", {})}, []


def _disagreements(manifest: Mapping[str, Any], records: Sequence[RecordDocument]) -> Iterator[str]:
    """Yields the contradictions between the manifest and the records, and within the manifest."""
    for name, listed, recorded in (
        ("data", manifest.get("data", {}), data_of(records)),
        ("models", manifest.get("models", {}), models_of(records)),
    ):
        if listed != recorded:
            differing = sorted(key for key in {*listed, *recorded} if listed.get(key) != recorded.get(key))
            yield f"{name}: {', '.join(differing)} differs from the records"
    profiles = {str(record.conditions.get("profile")) for record in records} - {manifest["profile"]}
    if profiles:
        yield f"profile {manifest['profile']} differs from the records, which have {', '.join(sorted(profiles))}"
    undone = [entry["name"] for entry in manifest.get("notebooks", ()) if entry["status"] != "done"]
    if manifest.get("complete") and (undone or not manifest.get("finished")):
        yield f"marks the run as complete, but not {', '.join(undone) or 'when it finished'}"
    for entry in manifest.get("notebooks", ()):
        name = f"notebooks/{entry['name']}.ipynb"
        if entry["status"] == "done" and name not in manifest["files"]:
            yield f"marks {entry['name']} as done, but does not list {name}"


def _list_files(folder: Path) -> tuple[set[str], list[Finding]]:
    """Returns the regular files of the folder except the manifest, and a finding for each link or special file."""
    names, irregular = set(), []
    for place, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            path = Path(place, entry)
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                irregular.append(broken(name, "is a symbolic link; a run folder must hold regular files"))
            elif path.is_file():
                names.add(name)
            elif not path.is_dir():
                irregular.append(broken(name, "is neither a regular file nor a folder"))
    return names - {MANIFEST}, sorted(irregular, key=lambda finding: finding.subject)


def _check_files(folder: Path, listed: Mapping[str, str], present: set[str]) -> Iterator[Finding]:
    """Yields a finding for each listed file that is missing or changed, and for each file that is not listed."""
    for name, expected in sorted(listed.items()):
        if (problem := file_fault(folder, name, expected, "the manifest lists it")) is not None:
            yield broken(name, problem)
    for name in sorted(present - set(listed)):
        yield broken(name, "is in the run folder, but the manifest does not list it")


def file_fault(folder: Path, name: str, expected: str, why: str) -> str | None:
    """Explains why a file does not have the expected sha256; None if it has. `why` says where the hash comes from."""
    try:
        path = inside(folder, name)
        if not path.is_file():
            return f"{why}, but it is missing"
        found = sha256_file(path)
    except (RunError, OSError) as error:
        return f"{why}, but: {error}"
    return None if found == expected else f"expected sha256 {expected[:12]}…, found {found[:12]}…"
