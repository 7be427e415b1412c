"""Audit the numbers of a Markdown file against a run: stale claims, missing records, numbers without a claim.

`bankllm claims --check README.md` prints the result.
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
    """Returns every fault of the file as text: stale claims, claims without a record, numbers without a claim.

    The claims are stale if the file names another run, if the run does not verify (for example because a raw file was
    changed), if the run is not complete, or if another minor version of bankllm made it. Raises `RunError` if the file
    or the run is unreadable.
    """
    text = read_markdown(file)
    faults = check_claims(file, folder)
    faults += [
        f"{file}:{number.line}: {number.text!r} is in a results section and has no claim. Bind it to a record with "
        "<!-- claim: ID -->, or name its source with <!-- not measured here: source -->"
        for number in unbound_numbers_in_results(text)
    ]
    return [*(f"{file}: stale: {why}" for why in _stale(file, run_named_in(text)[0], folder)), *faults]


def _stale(file: Path, named: str, folder: Path) -> Iterator[str]:
    """Yields the reasons why the run in `folder` cannot support the claims of a file that names the run `named`."""
    if named and (file.parent / named).resolve() != folder.resolve():
        yield f"the file names the run {named}, but was checked against {folder}"
    broken = [finding for finding in verify(folder).findings if not finding.holds]
    for finding in broken[:5]:
        yield f"{finding.subject} of {folder.name} does not verify: {finding.detail}"
    if len(broken) > 5:
        yield f"{len(broken) - 5} more findings. See all: bankllm verify {folder}"
    if not (folder / MANIFEST).exists():
        return
    manifest = read_manifest(folder)
    if not manifest.complete:
        yield f"run {manifest.run_id} is not complete. Continue with: bankllm run --resume {manifest.run_id}"
    made_by = str(manifest.environment.get("libraries", {}).get("bankllm"))
    if made_by.split(".")[:2] != __version__.split(".")[:2]:
        yield f"run {manifest.run_id} was made by bankllm {made_by}, this is {__version__}. Measure again: bankllm run"
