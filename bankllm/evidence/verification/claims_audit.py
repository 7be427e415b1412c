"""Audit a Markdown file whose numbers are bound to a run: stale claims, missing records, numbers without a claim.

`bankllm claims --check README.md` prints what this finds.
"""

from collections.abc import Iterator
from pathlib import Path

from bankllm import __version__
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.report.claims import check_claims, read_markdown, run_named_in
from bankllm.evidence.seal import MANIFEST
from bankllm.evidence.unbound_numbers import unbound_numbers_in_results
from bankllm.evidence.verification.verify import verify


def audit_claims(file: Path, folder: Path) -> list[str]:
    """All that keeps a reader from believing a page: stale claims, claims without a record, figures without a claim.

    Claims are stale when the file names another run, when the run does not hold (a raw file that changed is found so),
    did not finish, or was made by another minor version of bankllm. Raises `RunError` where file or run is unreadable.
    """
    text = read_markdown(file)
    named = run_named_in(text)[0]
    faults = []
    if named and (file.parent / named).resolve() != folder.resolve():
        faults.append(f"{file}: stale: it names the run {named}, and was checked against {folder}")
    if not (verdict := verify(folder)).holds:
        broken = [finding for finding in verdict.findings if not finding.holds]
        faults += [f"{file}: stale: {f.subject} of {folder.name} does not hold: {f.detail}" for f in broken[:5]]
        if len(broken) > 5:
            faults.append(f"{file}: stale: {len(broken) - 5} more findings; see bankllm verify {folder}")
    faults += [f"{file}: stale: {why}" for why in _outdated(folder)]
    faults += check_claims(file, folder)
    faults += [
        f"{file}:{figure.line}: {figure.text!r} stands in a results section and is bound to no record; bind it with "
        "<!-- claim: ID -->, or say whose it is with <!-- not measured here: source -->"
        for figure in unbound_numbers_in_results(text)
    ]
    return faults


def _outdated(folder: Path) -> Iterator[str]:
    if not (folder / MANIFEST).exists():
        return
    manifest = read_manifest(folder)
    if not manifest.complete:
        yield f"run {manifest.run_id} is not complete; carry on with bankllm run --resume {manifest.run_id}"
    made_by = str(manifest.environment.get("libraries", {}).get("bankllm"))
    if made_by.split(".")[:2] != __version__.split(".")[:2]:
        yield f"run {manifest.run_id} was made by bankllm {made_by}, this is {__version__}; measure again"
