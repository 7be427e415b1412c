"""Checkpoints of one training: a folder that says what it is of, and one state for each finished epoch.

A state counts once `Trainer` has written all of it and `mark` has put the costs so far beside it, so a training
killed at any moment carries on from the last whole epoch.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from bankllm.errors import RunError, UsageError
from bankllm.evidence.records import write_text

FINGERPRINT_FILE = "fingerprint.json"
STATE_FILE = "so_far.json"


class TrainingState(BaseModel):
    """What the training had cost when its state was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int
    encode_seconds: float
    seconds: float
    peak_memory_bytes: int


class Checkpoints:
    """The folder of one training's states. Raises `UsageError` if it belongs to another training."""

    def __init__(self, folder: Path, fingerprint: dict[str, object]) -> None:
        self.folder = folder
        wanted = json.loads(json.dumps(fingerprint))
        path = folder / FINGERPRINT_FILE
        if not path.exists():
            for half_written in folder.glob(f".{FINGERPRINT_FILE}.*"):  # by a training that was killed right then
                half_written.unlink()
            if folder.is_dir() and any(folder.iterdir()):
                raise UsageError(f"{folder} holds something that is not a checkpoint. Name a new or empty folder.")
            write_text(path, json.dumps(wanted, indent=2) + "\n")
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{path} is damaged ({error}). Remove {folder} to train from the start.") from error
        if found != wanted:
            names = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
            differences = ", ".join(f"{name} {found.get(name)!r} there, {wanted.get(name)!r} here" for name in names)
            raise UsageError(
                f"The checkpoint in {folder} is of another training: {differences}. Carry on with the same "
                "configuration and data, or remove the folder to train from the start."
            )

    def latest(self) -> tuple[Path, TrainingState] | None:
        """The newest whole state, if there is one."""
        states = sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        for state in reversed(states):
            try:
                return state, TrainingState.model_validate_json((state / STATE_FILE).read_text(encoding="utf-8"))
            except (FileNotFoundError, ValidationError):
                continue  # killed while this one was written
        return None

    @staticmethod
    def mark(state: Path, so_far: TrainingState) -> None:
        """Say that a state is whole."""
        write_text(state / STATE_FILE, so_far.model_dump_json(indent=2) + "\n")
