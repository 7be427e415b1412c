"""`manifest.json` of a run: reading and writing it, its seal (a hash of it), and the data and models of the records."""

import hashlib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from bankllm.errors import RunError, explained
from bankllm.evidence.documents import Manifest as Manifest
from bankllm.evidence.documents import NotebookRun as NotebookRun
from bankllm.evidence.documents import Record, as_json, parse
from bankllm.util.atomic_files import write_text

MANIFEST = "manifest.json"
RECORDS = "records.jsonl"
VERIFIER = "verify.pyz"
ATTESTATIONS = "attestations"
"""Folder of the signed statements about a run. They are added after the run is sealed, so it need not list them."""
UNSEALED_FILE = re.compile(rf"{ATTESTATIONS}/(?:\w[\w.-]*\.(?:dsse\.json|sigstore\.json|pub)|\.\w[\w.-]*\.\w{{8}})")
"""Path of a file that the manifest need not list: a signed statement, a public key, or what was not written whole."""
MAX_ATTESTATION_BYTES = 4 * 2**20
UNSEALED = "0" * 64
"""Placeholder for the seal while the hash is computed."""
DATA_KEYS = ("train_rows", "test_rows", "intents", "train_sha256", "test_sha256")
"""Conditions of a record that describe its data set, as `bankllm.datasets.Dataset.conditions` returns them."""

LEFT_BY_TOOLS = (
    *(".ds_store", "._*", ".appledouble", ".localized", "icon\r", "__macosx", ".spotlight-v100", ".fseventsd"),  # macOS
    *("thumbs.db", "ehthumbs*.db", "desktop.ini", "*:zone.identifier", "$recycle.bin"),  # Windows
    *(".directory", ".nfs*", ".fuse_hidden*", ".trash*", ".goutputstream-*"),  # Linux
    *("*~", ".*.sw?", ".*.kate-swp", "#*#", ".#*", "*.bak", "*.orig", "*.save", ".idea", ".vscode"),  # editors
    *(".~*", "~$*"),  # locks and unfinished saves of office programs and of Jupyter
    *(".ipynb_checkpoints", "__pycache__", ".virtual_documents", ".*_cache"),  # Jupyter and Python
)
"""Names (lower case, as in a shell) of files and folders that appear when people look at a run. They are no evidence:
no run has files with such names, and verification neither reads them nor counts them as added."""


def left_by_tools(name: str) -> bool:
    """Whether a path in a run, with forward slashes, is or is inside one of `LEFT_BY_TOOLS`."""
    return any(fnmatchcase(part, pattern) for part in name.lower().split("/") for pattern in LEFT_BY_TOOLS)


def may_be_unsealed(folder: Path, name: str) -> bool:
    """Whether a regular file may be in a sealed run although the manifest does not list it."""
    return bool(UNSEALED_FILE.fullmatch(name)) and (folder / name).stat().st_size <= MAX_ATTESTATION_BYTES


def manifest_path(folder: Path) -> Path:
    """Returns the path of the manifest. Raises `RunError` if there is none."""
    if not (folder / MANIFEST).is_file():
        raise RunError(
            f"{folder} is not a run: {MANIFEST} is missing. Expected a run folder, outputs/<run-id>; the file "
            "outputs/LATEST names the newest complete run."
        )
    return folder / MANIFEST


def read_manifest(folder: Path) -> Manifest:
    """Reads `manifest.json`. Raises `RunError` if it is missing or does not fit the class."""
    path = manifest_path(folder)
    advice = (
        "Expected a manifest with schema_version 1. The file is truncated, was edited, or comes from a newer bankllm; "
        "update bankllm or make the run again."
    )
    with explained(RunError, f"{path} cannot be read", advice, (ValueError, RecursionError)):
        return parse(path.read_bytes(), Manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_text(folder / MANIFEST, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    return as_json(manifest, indent=2) + "\n"


def seal_of(content: bytes, seal: str) -> str:
    """Computes the seal of a manifest: the sha256 of `content` with the last occurrence of `seal` replaced by zeros."""
    head, _, tail = content.rpartition(seal.encode())
    return hashlib.sha256(head + UNSEALED.encode() + tail).hexdigest()


def data_of(records: Iterable[Record]) -> dict[str, dict[str, Any]]:
    """Returns name → row counts and sha256 of every data set in the records."""
    conditions = [record.conditions for record in records if "dataset" in record.conditions]
    return {str(c["dataset"]): {key: c[key] for key in DATA_KEYS if key in c} for c in conditions}


def models_of(records: Iterable[Record]) -> dict[str, str | None]:
    """Returns name → sha256 of the weights of every base model in the records."""
    conditions = [record.conditions for record in records if "model" in record.conditions]
    return {str(c["model"]): c.get("model_sha256") for c in conditions}
