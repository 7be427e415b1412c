"""Finish a run: add the standalone verifier, hash every file, and seal the manifest."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bankllm.evidence.manifest import (
    UNSEALED,
    VERIFIER,
    Manifest,
    data_of,
    manifest_text,
    models_of,
    seal_of,
    write_manifest,
)
from bankllm.evidence.records import read_records
from bankllm.evidence.report.render import changed_pages, renderer
from bankllm.evidence.verification.run_checks import files_to_seal
from bankllm.evidence.verification.standalone import standalone
from bankllm.util.atomic_files import atomic_writer


def seal_run(folder: Path, manifest: Manifest, *, complete: bool) -> Manifest:
    """Writes `verify.pyz` and the final manifest; `complete` says whether all notebooks are done."""
    with atomic_writer(folder / VERIFIER) as file:
        file.write(standalone())
    (folder / "verify.py").unlink(missing_ok=True)  # the verifier of a run before 0.2 rejects the new manifest
    records = read_records(folder)
    sealed = replace(
        manifest,
        complete=complete,
        finished=manifest.finished or datetime.now(UTC),
        data=data_of(records),
        models=models_of(records),
        files=files_to_seal(folder, manifest.files),
        renderer=None if changed_pages(folder) else renderer(),
        seal=UNSEALED,
    )
    sealed = replace(sealed, seal=seal_of(manifest_text(sealed).encode("utf-8"), UNSEALED))
    write_manifest(folder, sealed)
    return sealed
