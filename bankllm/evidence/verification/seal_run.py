"""Finish a run: add the standalone verifier, hash every file, and seal the manifest."""

from datetime import UTC, datetime
from pathlib import Path

from bankllm.evidence.manifest import Manifest, manifest_text, write_manifest
from bankllm.evidence.records import read_records, sha256_file, write_text
from bankllm.evidence.seal import MANIFEST, UNSEALED, VERIFIER, data_of, models_of, seal_of
from bankllm.evidence.verification.standalone import standalone


def seal_run(folder: Path, manifest: Manifest, *, complete: bool) -> Manifest:
    """Writes `verify.py` and the final `manifest.json` of a run, and returns the manifest.

    The manifest then holds the time, the data sets and models of the records, the sha256 of every file, and the seal.
    `complete` says whether all six notebooks are done.
    """
    write_text(folder / VERIFIER, standalone())
    files = {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    records = read_records(folder)
    sealed = manifest.model_copy(
        update={
            "complete": complete,
            "finished": datetime.now(UTC),
            "data": data_of(records),
            "models": models_of(records),
            "files": files,
            "seal": UNSEALED,
        }
    )
    sealed = sealed.model_copy(update={"seal": seal_of(manifest_text(sealed).encode("utf-8"), UNSEALED)})
    write_manifest(folder, sealed)
    return sealed
