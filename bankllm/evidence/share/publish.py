"""A run as it goes into a repository: all that is needed to check it, no weights, and no paths of the machine.

bankllm publish outputs/<run-id> outputs/reference

Notebooks name the run's folder from where they lie (`..`). The manifest of the copy names what was left out, with its
sha256, and is sealed anew; both verifiers check the copy.
"""

import json
import shutil
import tempfile
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.manifest import Manifest, read_manifest, write_manifest
from bankllm.evidence.records import write_text
from bankllm.evidence.seal import MANIFEST
from bankllm.evidence.share.ro_crate import write_crate
from bankllm.evidence.verification.seal_run import seal_run
from bankllm.evidence.verification.verify import verify

WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".onnx"})
MOST_BYTES = 20 * 2**20
"""More does not go into a repository."""


def publish(run: Path, target: Path) -> Manifest:
    """Copy a finished run to `target`, without weights and machine paths. An earlier copy there is replaced, whole or
    not at all.

    Raises `RunError` for a run that does not hold or was not made from a commit as it stands, for a `target` that is
    something else than a run, and for a copy of over 20 MiB.
    """
    manifest = read_manifest(run)
    if not (verdict := verify(run)).holds:
        raise RunError(f"{run} {verdict.summary()}. A run that does not hold is not published.")
    if manifest.git_dirty is not False:
        raise RunError(
            f"{run} was not made from a commit as it stands, so nobody could make it again. Commit first, then run."
        )
    if target.exists() and not (target / MANIFEST).is_file():
        raise RunError(f"{target} is there and is not a run. Name a folder that is not there yet, or an earlier copy.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as place:
        copy = Path(place) / target.name
        shutil.copytree(run, copy, ignore=_weights)
        for notebook in copy.glob("notebooks/*.ipynb"):
            write_text(notebook, _without_paths(notebook.read_text(encoding="utf-8")))
        left_out = {name: sha256 for name, sha256 in manifest.files.items() if not (copy / name).exists()}
        manifest = manifest.model_copy(update={"left_out": manifest.left_out | left_out})
        write_manifest(copy, manifest)
        write_crate(copy, manifest)
        published = seal_run(copy, manifest, complete=manifest.complete)
        if (size := sum(path.stat().st_size for path in copy.rglob("*") if path.is_file())) > MOST_BYTES:
            raise RunError(f"The copy of {run} has {size / 2**20:.1f} MiB. Expected {MOST_BYTES // 2**20} MiB at most.")
        if target.exists():
            target.rename(Path(place) / "before")
        copy.rename(target)
    return published


def _weights(_: str, names: list[str]) -> set[str]:
    return {name for name in names if Path(name).suffix in WEIGHTS}


def _without_paths(notebook: str) -> str:
    """An executed notebook without the places that papermill noted: of the notebook, of its copy, of the run."""
    document = json.loads(notebook)
    noted = document["metadata"].get("papermill", {})
    if run := noted.get("parameters", {}).get("run_dir"):
        noted["input_path"], noted["output_path"] = Path(noted["input_path"]).name, Path(noted["output_path"]).name
        noted["parameters"]["run_dir"] = ".."
        for cell in document["cells"]:
            if "injected-parameters" in cell["metadata"].get("tags", ()):
                cell["source"] = [line.replace(json.dumps(run), '".."') for line in cell["source"]]
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
