"""Write and read the files of a sweep.

For each configuration, `<key>/` holds the artifact, `rows.csv` and `result.json`, which is written last.
`<key>.checkpoint/` holds the checkpoints of a training that is not finished.
"""

import csv
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from bankllm.datasets import Dataset
from bankllm.errors import NotMeasured, RunError, UsageError
from bankllm.evidence.records import write_text
from bankllm.model.artifact import TRAINING_FILE
from bankllm.training.artifact_records import Costs
from bankllm.training.checkpoints import FINGERPRINT_FILE, STATE_FILE
from bankllm.training.config import TrainConfig

RESULT = "result.json"
ROWS = "rows.csv"


class TrainingRecord(BaseModel):
    """Content of `result.json`. For a finished training, artifact and rows were written before this file."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    status: Literal["done", "not_measured"]
    reason: str | None = None
    """Why the training was not measured; None if it was."""
    config: TrainConfig
    data: dict[str, Any]
    """`Dataset.conditions` and a sha256 of the rows; see `identity`."""
    costs: Costs | None = None
    """None if the training was not measured."""


@dataclass(frozen=True)
class SweepResult:
    """The outcome of one configuration of a sweep."""

    key: str
    folder: Path
    """The artifact folder, which `IntentClassifier.load` accepts, with `rows.csv` and `result.json`. If the training
    was not measured, the folder holds only `result.json`."""
    result: TrainingRecord

    @property
    def config(self) -> TrainConfig:
        """The configuration."""
        return self.result.config

    @property
    def measured(self) -> bool:
        """Whether the training ran on this machine."""
        return self.result.status == "done"

    @property
    def reason(self) -> str | None:
        """Why the training was not measured; None if it was."""
        return self.result.reason

    @property
    def costs(self) -> Costs:
        """The costs of the training. Raises `NotMeasured` with the reason if the training was not measured."""
        if self.result.costs is None:
            raise NotMeasured(f"{self.key} was not measured: {self.reason}")
        return self.result.costs

    def summary(self) -> str:
        """Describe the outcome in one line."""
        if not self.measured:
            return f"not measured: {self.reason}"
        return f"trained in {self.costs.seconds:.1f} s, after {self.costs.encode_seconds:.1f} s of embedding"

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of `rows.csv`, all values as text; empty if the training was not measured."""
        if not self.measured:
            return []
        with (self.folder / ROWS).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def identity(data: Dataset) -> dict[str, Any]:
    """Identify a data set: `Dataset.conditions` (name, counts, hashes), and a sha256 of labels, texts and order."""
    content = [data.label_names, *([split.texts, split.labels] for split in (data.train, data.test))]
    return {**data.conditions(), "rows_sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()}


def read_outcome(key: str, config: TrainConfig, data: Dataset, folder: Path) -> SweepResult | None:
    """Read the measured outcome of a key; None if there is none or it is incomplete.

    Raises `UsageError` if the stored result belongs to another configuration or data set, and `RunError` if it is
    damaged.
    """
    home = folder / key
    path = home / RESULT
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        stored = {**found["config"], **found["data"]}
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    wanted = {**config.model_dump(mode="json"), **identity(data)}
    other = [name for name in wanted if name not in stored or stored[name] != wanted[name]]
    if other:
        differences = "; ".join(f"{name}: stored {stored.get(name)!r}, requested {wanted[name]!r}" for name in other)
        raise UsageError(
            f"{home} holds the result of another training with the same key ({differences}). Delete that folder to "
            "train again, or choose another folder for the sweep."
        )
    try:
        result = TrainingRecord.model_validate(found)
    except (ValidationError, UsageError) as error:
        raise _damaged(path, error) from error
    whole = (home / TRAINING_FILE).is_file() and (home / ROWS).is_file()
    return SweepResult(key, home, result) if result.status == "done" and whole else None


def write_result(outcome: SweepResult) -> None:
    """Write `result.json` atomically."""
    write_text(outcome.folder / RESULT, outcome.result.model_dump_json(indent=2) + "\n")


def checkpoint_folder(key: str, folder: Path) -> Path:
    """Return the folder for the checkpoints of a key."""
    return folder / f"{key}.checkpoint"


def has_state(key: str, folder: Path) -> bool:
    """Whether the training of a key can be resumed, that is, whether at least one finished epoch is stored."""
    return any(checkpoint_folder(key, folder).glob(f"*/{STATE_FILE}"))


def remove_leftovers(key: str, folder: Path, *, finished: bool) -> None:
    """Delete the files that a killed training of this key left half-written.

    With `finished`, also delete its checkpoints. Checkpoints without a fingerprint file are always deleted.
    """
    checkpoint = checkpoint_folder(key, folder)
    for path in [*folder.glob(f".{key}-????????"), *(folder / key).glob(".*.*"), *checkpoint.glob(".*.*")]:
        _remove(path)
    if checkpoint.is_dir() and (finished or not (checkpoint / FINGERPRINT_FILE).is_file()):
        _remove(checkpoint)


def remove_unfinished(home: Path) -> None:
    """Delete the folder of a key before a training: an artifact without a result, or a *not measured* result."""
    if any((home / name).is_file() for name in (RESULT, TRAINING_FILE)):
        # Rename first: a half-deleted folder under the original name could not be recognised as incomplete.
        obsolete = home.with_name(f".{home.name}-obsolete")
        home.rename(obsolete)
        _remove(obsolete)


def remove_strays(folder: Path) -> None:
    """Delete the empty temporary folders that killed trainings created to test whether the folder is writable."""
    for path in folder.glob("tmp????????"):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(
        f"{path} is not a valid sweep result ({error}). The file was edited or is damaged. Delete {path.parent} to "
        "train this configuration again."
    )
