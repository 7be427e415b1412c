"""`manifest.json`: what was run, where, on what, and the sha256 of every file that came out.

The pipeline writes it after each notebook (so that a run can be resumed) and once more at the end.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bankllm.errors import RunError
from bankllm.evidence.records import write_text
from bankllm.evidence.seal import MANIFEST


class NotebookRun(BaseModel):
    """What became of one notebook."""

    model_config = ConfigDict(extra="forbid")

    name: str
    status: Literal["done", "failed", "skipped"]
    seconds: float
    error: str | None = None


class Manifest(BaseModel):
    """See the contract in DESIGN: a run that a reader can place in time, on a machine, at a commit."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    run_id: str
    profile: str
    command: str
    started: datetime
    finished: datetime | None = None
    complete: bool = False
    """Every one of the six notebooks is done."""
    git_commit: str | None
    git_dirty: bool | None
    environment: dict[str, Any]
    data: dict[str, dict[str, Any]] = {}
    """Every data set that a record names, with its row counts and sha256."""
    models: dict[str, str | None] = {}
    """Every base model that a record names, with the sha256 of its weights."""
    notebooks: list[NotebookRun] = []
    files: dict[str, str] = {}
    """Path relative to the run's folder → sha256; empty until the run is sealed."""
    left_out: dict[str, str] = {}
    """The same of files that the run had and that this copy of it does not carry (`publish`)."""
    seal: str | None = None
    """sha256 of this very file with zeros in the seal's place: an edit of the manifest alone is found.

    It is no signature: who makes a new seal, too, has made another run, whose numbers must still be recomputable.
    """


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json`, whole or not at all."""
    write_text(folder / MANIFEST, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    """The manifest as its file holds it."""
    return manifest.model_dump_json(indent=2) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Raises `RunError` where there is no readable manifest."""
    path = folder / MANIFEST
    if not path.is_file():
        raise RunError(f"{folder} is not a run: {MANIFEST} is missing. Expected outputs/<run-id>; see outputs/LATEST.")
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        fault = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else "not UTF-8"
        raise RunError(
            f"{path} cannot be read ({fault}). It was cut short, edited, or written by a newer bankllm."
        ) from error
