"""Check a whole run: its records, the seal of its manifest, every file that it lists and none that it does not.

Standard library alone: `bankllm verify` and every run's own `verify.py` are this code.
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
    """Every finding of a run that says to be finished. Raises `RunError` where there is no manifest."""
    if not (folder / MANIFEST).is_file():
        raise RunError(f"{folder} is not a run: {MANIFEST} is missing. Expected outputs/<run-id>; see outputs/LATEST.")
    records, findings = read_record_documents(folder, schemas["record"])
    try:
        findings += check_records(folder, records)
    except RunError as error:
        findings.append(broken("raw", str(error)))
    manifest, faults = _read_manifest(folder, schemas["manifest"])
    findings += [broken(MANIFEST, problem) for problem in faults]
    present, strange = _present(folder)
    findings += strange
    findings += check_pages(folder, sorted(present), records)
    if manifest is None:
        return Verdict(tuple(findings))
    if not manifest["files"]:
        findings.append(broken(MANIFEST, "the run did not finish; resume it"))
        return Verdict(tuple(findings))
    findings += [broken(MANIFEST, problem) for problem in _disagreements(manifest, records)]
    findings += _check_files(folder, manifest["files"], present)
    return Verdict(tuple(findings))


def lines(verdict: Verdict) -> Iterator[str]:
    """One line a finding, and the verdict."""
    width = max((len(finding.subject) for finding in verdict.findings), default=0)
    for finding in verdict.findings:
        yield f"{finding.status:<13}  {finding.subject:<{width}}  {finding.detail}"
    yield verdict.summary()


def as_json(verdict: Verdict) -> str:
    """The verdict for other programs."""
    findings = [vars(finding) for finding in verdict.findings]
    return json.dumps({"holds": verdict.holds, "findings": findings}, indent=2)


def main(folder: Path, schemas: Mapping[str, Mapping[str, Any]], arguments: Sequence[str]) -> int:
    """What `python3 RUN_DIR/verify.py [--json]` does; returns the exit code."""
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
    """The manifest, None where it cannot be used, and what is wrong with it."""
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
        return document, ["was edited after the run was sealed: the seal is not that of its content"]
    return document | {"files": document.get("files", {})}, []


def _disagreements(manifest: Mapping[str, Any], records: Sequence[RecordDocument]) -> Iterator[str]:
    """Where the manifest says something else than the records."""
    for name, said, found in (
        ("data", manifest.get("data", {}), data_of(records)),
        ("models", manifest.get("models", {}), models_of(records)),
    ):
        if said != found:
            differing = sorted(key for key in {*said, *found} if said.get(key) != found.get(key))
            yield f"{name}: {', '.join(differing)} is not what the records say"
    profiles = {str(record.conditions.get("profile")) for record in records} - {manifest["profile"]}
    if profiles:
        yield f"says profile {manifest['profile']}, the records {', '.join(sorted(profiles))}"
    undone = [entry["name"] for entry in manifest.get("notebooks", ()) if entry["status"] != "done"]
    if manifest.get("complete") and (undone or not manifest.get("finished")):
        yield f"says that the run is complete, but not that of {', '.join(undone) or 'its end'}"
    for entry in manifest.get("notebooks", ()):
        name = f"notebooks/{entry['name']}.ipynb"
        if entry["status"] == "done" and name not in manifest["files"]:
            yield f"says that {entry['name']} was executed, but does not list {name}"


def _present(folder: Path) -> tuple[set[str], list[Finding]]:
    """The files of the folder but the manifest, and a finding for each thing that is no plain file or folder."""
    names, strange = set(), []
    for place, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            path = Path(place, entry)
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                strange.append(broken(name, "is a link; a run consists of files that can be copied"))
            elif path.is_file():
                names.add(name)
            elif not path.is_dir():
                strange.append(broken(name, "is neither a file nor a folder"))
    return names - {MANIFEST}, sorted(strange, key=lambda finding: finding.subject)


def _check_files(folder: Path, listed: Mapping[str, str], present: set[str]) -> Iterator[Finding]:
    """A finding for each file that is not what the manifest says, or that it does not list."""
    for name, expected in sorted(listed.items()):
        if (problem := file_fault(folder, name, expected, "the manifest lists it")) is not None:
            yield broken(name, problem)
    for name in sorted(present - set(listed)):
        yield broken(name, "lies in the run's folder, but the manifest does not list it")


def file_fault(folder: Path, name: str, expected: str, why: str) -> str | None:
    """What is wrong with a file whose sha256 is known; None where nothing is."""
    try:
        path = inside(folder, name)
        if not path.is_file():
            return f"{why}, but it is missing"
        found = sha256_file(path)
    except (RunError, OSError) as error:
        return f"{why}, but: {error}"
    return None if found == expected else f"expected sha256 {expected[:12]}…, found {found[:12]}…"
