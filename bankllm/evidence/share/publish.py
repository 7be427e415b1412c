"""Copy a run into a git repository: without weights, repeated tables, local paths and what other programs left there.

The manifest of the copy lists the omitted files with their sha256, and the copy is sealed again, so that `bankllm
verify` and the copy's own `verify.pyz` accept it.
"""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.manifest import ATTESTATIONS, MANIFEST, Manifest, left_by_tools, read_manifest, write_manifest
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.evidence.verification.verify import require_verified
from bankllm.util.atomic_files import write_text

WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".onnx", ".checkpoint"})
"""Suffixes of weights and of interrupted trainings."""
MAX_BYTES = 8 * 2**20
TRAININGS = "adapters"
"""Folder of the trained classifiers. Their tables are left out: `raw/` repeats them, and records of a classifier verify
only beside its weights."""


def publish(run: Path, target: Path) -> Manifest:
    """Copy a run to `target` and return the manifest of the copy. An earlier copy is replaced at the end.

    Raises `RunError`, without a change, if the run does not verify, if it was made with uncommitted changes or outside
    a git checkout, if `target` exists and is not a run, if one of both folders contains the other, or if the copy is
    larger than `MAX_BYTES`.
    """
    manifest = read_manifest(require_verified(run))
    if manifest.git_dirty is not False:
        raise RunError(
            f"{run} was made with uncommitted changes or outside a git checkout, so it cannot be reproduced. "
            "Commit all changes, run again, and publish the new run."
        )
    here, there = run.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise RunError(f"{target} and {run} are the same folder, or one contains the other. Choose another folder.")
    if target.exists() and not (target / MANIFEST).is_file():
        raise RunError(
            f"{target} exists and is not a run. Choose a folder that does not exist, or an earlier copy to replace."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        copy = Path(temporary) / target.name
        shutil.copytree(
            run, copy, ignore=lambda folder, names: _left_out(Path(folder).relative_to(run), names, manifest)
        )
        for notebook in copy.glob("notebooks/*.ipynb"):
            write_text(notebook, _without_paths(notebook.read_text(encoding="utf-8")))
        left_out = {name: sha256 for name, sha256 in manifest.files.items() if not (copy / name).exists()}
        manifest = replace(manifest, left_out=manifest.left_out | left_out)
        write_manifest(copy, manifest)
        write_crate(copy, manifest)
        published = seal_run(copy, manifest, complete=manifest.complete)
        if (size := sum(path.stat().st_size for path in copy.rglob("*") if path.is_file())) > MAX_BYTES:
            raise RunError(f"The copy of {run} has {size / 2**20:.1f} MiB. Expected at most {MAX_BYTES // 2**20} MiB.")
        if target.exists():
            target.rename(Path(temporary) / "before")
        copy.rename(target)
    return published


def _left_out(folder: Path, names: list[str], manifest: Manifest) -> set[str]:
    if folder.name == ATTESTATIONS:  # the others are about the manifest of the original
        return {name for name in names if f"{ATTESTATIONS}/{name}" not in manifest.files}
    tables = {".csv", ".gz"} if folder.parts[:1] == (TRAININGS,) else set()
    return {name for name in names if Path(name).suffix in WEIGHTS | tables or left_by_tools(name)}


def _without_paths(notebook: str) -> str:
    """The executed notebook without the paths that papermill records; that of the run folder becomes `..`."""
    document = json.loads(notebook)
    papermill = document["metadata"].get("papermill", {})
    if run := papermill.get("parameters", {}).get("run_dir"):
        papermill |= {key: Path(papermill[key]).name for key in ("input_path", "output_path")}
        papermill["parameters"]["run_dir"] = ".."
        for cell in document["cells"]:
            if "injected-parameters" in cell["metadata"].get("tags", ()):
                cell["source"] = [line.replace(json.dumps(run), '".."') for line in cell["source"]]
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
