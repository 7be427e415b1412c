"""Read and write `manifest.json`: the pipeline after each notebook, and `verification.seal_run` at the end."""

from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.documents import Manifest as Manifest
from bankllm.evidence.documents import NotebookRun as NotebookRun
from bankllm.evidence.documents import as_json, parse
from bankllm.evidence.records import write_text
from bankllm.evidence.seal import MANIFEST, manifest_path


def write_manifest(folder: Path, manifest: Manifest) -> None:
    write_text(folder / MANIFEST, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    return as_json(manifest, indent=2) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Reads `manifest.json`. Raises `RunError` if it is missing or does not fit the class."""
    path = manifest_path(folder)
    try:
        return parse(path.read_bytes(), Manifest)
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"{path} cannot be read ({error}). Expected a manifest with schema_version 1. "
            "The file is truncated, was edited, or comes from a newer bankllm; update bankllm or make the run again."
        ) from error
