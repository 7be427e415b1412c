"""Checkpoints of one training: a fingerprint of the training, and one state folder per finished epoch.

A state is complete after `Trainer` has written all its files and `mark` has added the costs so far. A training that is
killed at any moment therefore resumes from the last complete epoch.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bankllm.errors import RunError, UsageError
from bankllm.evidence.records import write_text

FINGERPRINT_FILE = "made_from.json"
"""Configuration, data and base model of the training that owns the folder."""
STATE_FILE = "so_far.json"
"""`TrainingState` in each state folder. The file exists only if the state is complete."""


class TrainingState(BaseModel):
    """Progress and costs of a training when a state was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int
    """Finished epochs."""
    encode_seconds: float
    """Seconds of embedding with the frozen base."""
    seconds: float
    """Seconds of optimisation."""
    peak_memory_bytes: int


class Checkpoints:
    """The checkpoint folder of one training.

    `fingerprint` identifies the training: configuration, data and base model, as JSON values. The constructor writes
    it to a new folder. It raises `UsageError` if the folder belongs to another training or holds other files, and
    `RunError` if the fingerprint file is damaged.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, object]) -> None:
        self.folder = folder
        wanted = json.loads(json.dumps(fingerprint))
        path = folder / FINGERPRINT_FILE
        if not path.exists():
            for half_written in folder.glob(f".{FINGERPRINT_FILE}.*"):  # a training was killed while it wrote the file
                half_written.unlink()
            if folder.is_dir() and any(folder.iterdir()):
                raise UsageError(
                    f"{folder} contains files that are not a checkpoint. Choose a new or empty folder for checkpoints."
                )
            write_text(path, json.dumps(wanted, indent=2) + "\n")
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}). Delete {folder} to train from the start.") from error
        if found != wanted:
            names = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
            differences = ", ".join(
                f"{name}: checkpoint {found.get(name)!r}, this training {wanted.get(name)!r}" for name in names
            )
            raise UsageError(
                f"The checkpoint in {folder} belongs to another training ({differences}). Resume with the same "
                "configuration and data, or delete the folder to train from the start."
            )

    def latest(self) -> tuple[Path, TrainingState] | None:
        """Return folder and costs of the newest complete state; None if there is none."""
        states = sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        for state in reversed(states):
            try:
                return state, TrainingState.model_validate_json((state / STATE_FILE).read_text(encoding="utf-8"))
            except (FileNotFoundError, ValidationError):
                continue  # the training was killed while it wrote this state
        return None

    @staticmethod
    def mark(folder: Path, state: TrainingState) -> None:
        """Mark the state in `folder` as complete, by writing its costs."""
        write_text(folder / STATE_FILE, state.model_dump_json(indent=2) + "\n")
