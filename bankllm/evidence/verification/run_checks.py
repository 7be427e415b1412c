"""Check a whole run: its records, pages and manifest, and that its files are exactly those that the manifest lists."""

import json
import re
import sys
from collections.abc import Container, Iterator, Sequence
from io import TextIOWrapper
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.documents import Manifest, Record, parse
from bankllm.evidence.manifest import (
    MANIFEST,
    data_of,
    left_by_tools,
    manifest_path,
    may_be_unsealed,
    models_of,
    seal_of,
)
from bankllm.evidence.verification.artifact_checks import check_artifacts
from bankllm.evidence.verification.crate_checks import METADATA, check_crate
from bankllm.evidence.verification.page_checks import check_pages
from bankllm.evidence.verification.record_checks import (
    Finding,
    Verdict,
    broken,
    changed_files,
    check_records,
    read_record_lines,
    read_text,
)
from bankllm.util.file_hash import sha256_file

NOT_PRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that names and records of a hostile run may have, and that begin a line or command the terminal."""


def check_run(folder: Path) -> Verdict:
    """Checks a finished run against its own files. Raises `RunError` if there is no manifest."""
    manifest_path(folder)
    records, findings = read_record_lines(folder)
    hashes, irregular = hash_files(folder)
    try:
        findings += check_records(folder, records, hashes)
    except RunError as error:
        findings.append(broken("raw", str(error)))
    findings += [*irregular, *check_pages(folder, hashes, records)]
    try:
        text = read_text(folder, MANIFEST)
        manifest = parse(text, Manifest)
    except (RunError, ValueError, RecursionError) as error:
        return Verdict((*findings, broken(MANIFEST, f"cannot be read: {error}")))
    findings += [broken(MANIFEST, problem) for problem in _manifest_faults(manifest, text, records)]
    findings += check_artifacts(folder, hashes, manifest.left_out, records)
    if METADATA in manifest.files:
        findings += check_crate(folder, manifest, records)
    if manifest.files:
        findings += changed_files(manifest.files, hashes, "the manifest lists it")
        unlisted = (name for name in sorted(hashes.keys() - manifest.files.keys()) if not may_be_unsealed(folder, name))
        findings += [broken(name, "is in the run folder, but the manifest does not list it") for name in unlisted]
    return Verdict(tuple(findings))


def as_text(verdict: Verdict, *, as_json: bool) -> str:
    """Returns a line per finding and the summary, or as JSON `holds` and the fields of each of the `findings`."""
    if as_json:
        return json.dumps({"holds": verdict.holds, "findings": [vars(one) for one in verdict.findings]}, indent=2)
    width = max((len(finding.subject) for finding in verdict.findings), default=0)
    lines = [f"{one.status:<13}  {one.subject:<{width}}  {one.detail}" for one in verdict.findings]
    return "\n".join(
        [*(NOT_PRINTED.sub(lambda match: ascii(match[0])[1:-1], line) for line in lines), verdict.summary()]
    )


def main(folder: Path, arguments: Sequence[str]) -> int:
    """Runs `verify.pyz`, which is in `folder`. Returns the exit code: 0 verified, 1 not, 2 wrong usage, 130 Ctrl-C."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # the encoding may be ASCII
    others = [argument for argument in arguments if argument != "--json"]
    if len(others) > 1 or "".join(others).startswith("-"):
        print("usage: python3 verify.pyz [RUN_DIR] [--json]", file=sys.stderr)
        return 2
    try:
        verdict = check_run(Path(*others) if others else folder)
        print(as_text(verdict, as_json="--json" in arguments), flush=True)
    except (RunError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if verdict.holds else 1


def _manifest_faults(manifest: Manifest, text: str, records: Sequence[Record]) -> Iterator[str]:
    if not manifest.files:
        yield f"lists no files: the run did not finish. Continue with: bankllm run --resume {manifest.run_id}"
        return
    if not manifest.seal or seal_of(text.encode("utf-8"), manifest.seal) != manifest.seal:
        yield "was edited after the run was sealed: the seal does not match the content"
    for what, listed, of in (("data", manifest.data, data_of), ("models", manifest.models, models_of)):
        wrong = {name for one in records for name, facts in of([one]).items() if listed.get(name, ()) != facts}
        wrong |= listed.keys() - of(records).keys()
        if wrong:
            yield f"{what}: {', '.join(sorted(wrong))} differs from the records"
    profiles = {str(record.conditions.get("profile")) for record in records} - {manifest.profile}
    if profiles:
        yield f"profile {manifest.profile} differs from the records, which have {', '.join(sorted(profiles))}"
    undone = [entry.name for entry in manifest.notebooks if entry.status != "done"]
    if manifest.complete and (undone or not manifest.finished):
        yield f"marks the run as complete, but not {', '.join(undone) or 'when it finished'}"
    for entry in manifest.notebooks:
        name = f"notebooks/{entry.name}.ipynb"
        if entry.status == "done" and name not in manifest.files:
            yield f"marks {entry.name} as done, but does not list {name}"


def hash_files(folder: Path) -> tuple[dict[str, str], list[Finding]]:
    """Returns path → sha256 of the regular files, and a finding for each link, special or unreadable file.

    The manifest and `LEFT_BY_TOOLS` are left out.
    """
    hashes, irregular = {}, []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if left_by_tools(name):
            continue
        try:
            if path.is_symlink():
                irregular.append(broken(name, "is a symbolic link; a run folder must hold regular files"))
            elif path.is_file():
                hashes[name] = sha256_file(path)
            elif not path.is_dir():
                irregular.append(broken(name, "is neither a regular file nor a folder"))
        except OSError as error:
            irregular.append(broken(name, f"cannot be read ({error})"))
    hashes.pop(MANIFEST, None)
    return hashes, irregular


def files_to_seal(folder: Path, listed: Container[str]) -> dict[str, str]:
    """Returns path → sha256 of the files that a manifest lists: all but those of `attestations/` not in `listed`."""
    hashes = hash_files(folder)[0]
    return {name: sha for name, sha in hashes.items() if name in listed or not may_be_unsealed(folder, name)}
