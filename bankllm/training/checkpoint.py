"""Resume a training: what it is made from, and its state after the last finished epoch or step.

A classifier's checkpoint is one file. That of a language model is a folder with TRL's `checkpoint-<step>` folders.
Each is complete or marked as complete with one rename, so a killed process leaves the state before or after.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from bankllm.datasets import Dataset
from bankllm.errors import RunError, UsageError, explained
from bankllm.training.config import TrainConfig
from bankllm.util.atomic_files import atomic_writer, check_writable

MARK = "bankllm.json"
"""File that is written last to each of TRL's folders; one without it is not used."""


def made_from(config: TrainConfig, data: Dataset) -> dict[str, Any]:
    """Configuration and data set of a training, with a sha256 of the data set's labels, texts and order."""
    rows = [data.label_names, *([split.texts, split.labels] for split in (data.train, data.test))]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    return {**data.conditions(), "rows_sha256": digest, "config": config.model_dump(mode="json")}


def refuse_other(found: dict[str, Any], wanted: dict[str, Any], path: Path) -> None:
    """Raise `UsageError` if what is stored in `path` was made from something else."""
    stored, requested = ({**source, **source["config"], "config": None} for source in (found, wanted))
    other = [name for name in requested if stored.get(name, requested[name]) != requested[name]]
    if other:
        differences = ", ".join(f"{name}: stored {stored[name]!r}, requested {requested[name]!r}" for name in other)
        raise UsageError(
            f"{path} belongs to another training ({differences}). Resume with the same configuration and data, choose "
            "another path, or delete it to train again."
        )


class Checkpoint:
    """The checkpoint file of one training, which `source` identifies.

    The constructor raises `UsageError` if the file belongs to another training, and `RunError` if it is damaged, no
    checkpoint, or cannot be written.
    """

    def __init__(self, path: Path, source: dict[str, Any]) -> None:
        self.path, self.source = path, source
        self.state: dict[str, Any] | None = None
        """The state after the last finished epoch, as `save` got it; None if no epoch was finished."""
        check_writable(path)
        if not path.exists():
            return
        advice = "Delete it to train from the start, or choose another file."
        with explained(RunError, f"{path} is not a checkpoint of a training, or it is damaged", advice):
            with path.open("rb") as file:
                stored = torch.load(file, map_location="cpu", weights_only=True)
            found, self.state = json.loads(stored["source"]), stored["state"]
        refuse_other(found, source, path)

    def save(self, state: dict[str, Any]) -> None:
        with atomic_writer(self.path) as file:
            torch.save({"source": json.dumps(self.source), "state": state}, file)


class Checkpoints:
    """The folder of checkpoints of the fine-tuning that `source` identifies.

    The constructor raises `UsageError` if the folder holds other files or another training, and `RunError` if it cannot
    be written.
    """

    def __init__(self, folder: Path, source: dict[str, Any]) -> None:
        self.source: dict[str, Any] = json.loads(json.dumps(source))
        self.newest: Path | None = None
        """The newest complete checkpoint."""
        self.state: dict[str, Any] = {}
        """What `mark` got with it."""
        check_writable(folder / MARK)
        if strange := [path.name for path in folder.iterdir() if not path.name.startswith(("checkpoint-", "README."))]:
            raise UsageError(
                f"{folder} holds {strange[0]}, which is no checkpoint of a fine-tuning. Choose a new or empty folder."
            )
        for mark in sorted(
            folder.glob(f"checkpoint-*/{MARK}"), key=lambda path: int(path.parent.name.partition("-")[2])
        ):
            found = json.loads(mark.read_bytes())
            refuse_other(found["source"], self.source, folder)
            self.newest, self.state = mark.parent, found["state"]

    def mark(self, folder: Path, state: dict[str, Any]) -> None:
        """Declare a checkpoint complete."""
        with atomic_writer(folder / MARK) as file:
            file.write(json.dumps({"source": self.source, "state": state}).encode())
