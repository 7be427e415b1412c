"""`manifest.json`: the command, commit, machine and data of a run, and the sha256 of every file in its folder.

The contract of the file:

- The pipeline writes it after each notebook, so that an interrupted run can be resumed. `files` is empty until then.
- At the end, `verification.seal_run` sets `finished`, `data`, `models`, `files` and `seal`. A run without `files` does
  not verify.
- `files` lists every file of the folder except `manifest.json`. The folder holds no other file and no symbolic link.
- `profile`, `data` and `models` agree with the records. The executed notebook of every notebook that is done is listed.
- `complete` is true only if all six notebooks are done and the run is finished.
- Unknown keys are rejected. A change that old readers cannot read raises `schema_version`.

`bankllm verify` checks the file against its JSON Schema (`verification/schema/manifest.v1.json`), the records and the
files of the folder.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bankllm.errors import RunError
from bankllm.evidence.records import write_text
from bankllm.evidence.seal import MANIFEST


class NotebookRun(BaseModel):
    """The result of executing one notebook. `seconds` is its wall time; `error` says why it failed or was skipped."""

    model_config = ConfigDict(extra="forbid")

    name: str
    status: Literal["done", "failed", "skipped"]
    seconds: float
    error: str | None = None


class Manifest(BaseModel):
    """The content of `manifest.json`: which command and commit made a run, when, on which machine, with which data.

    `files` and `seal` are set when the run is finished. `bankllm verify` then checks every file of the run folder.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    run_id: str
    profile: str
    command: str
    started: datetime
    finished: datetime | None = None
    complete: bool = False
    """All six notebooks are done."""
    git_commit: str | None
    """None outside a git checkout."""
    git_dirty: bool | None
    """Whether the checkout had uncommitted changes; None outside a git checkout."""
    environment: dict[str, Any]
    """`environment.environment_info` of the machine that made the run."""
    data: dict[str, dict[str, Any]] = {}
    """Name of each data set in the records → its row counts and sha256."""
    models: dict[str, str | None] = {}
    """Name of each base model in the records → sha256 of its weights."""
    notebooks: list[NotebookRun] = []
    files: dict[str, str] = {}
    """Path relative to the run folder → sha256; empty until the run is sealed."""
    left_out: dict[str, str] = {}
    """Path → sha256 of files of the original run that this copy does not contain (`bankllm publish` omits weights)."""
    seal: str | None = None
    """sha256 of `manifest.json` itself, computed with zeros in place of the seal. It reveals an edit of the manifest.

    The seal is not a signature: anyone can edit a run and compute a new seal. The numbers of such a run must still
    follow from its raw files.
    """


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes `manifest.json` atomically."""
    write_text(folder / MANIFEST, manifest_text(manifest))


def manifest_text(manifest: Manifest) -> str:
    """Returns the text of `manifest.json`."""
    return manifest.model_dump_json(indent=2) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Reads `manifest.json`. Raises `RunError` if it is missing or does not fit the model."""
    path = folder / MANIFEST
    if not path.is_file():
        raise RunError(
            f"{folder} is not a run: {MANIFEST} is missing. Expected a run folder, outputs/<run-id>; the file "
            "outputs/LATEST names the newest complete run."
        )
    try:
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        fault = error.errors(include_url=False)[0]["msg"] if isinstance(error, ValidationError) else "not UTF-8"
        raise RunError(
            f"{path} cannot be read ({fault}). Expected a manifest with schema_version 1. "
            "The file is truncated, was edited, or comes from a newer bankllm; update bankllm or make the run again."
        ) from error
