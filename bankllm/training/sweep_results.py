"""What a sweep leaves on disk for each configuration, and how a later call reads it again.

`<key>/` is the artifact with `rows.csv` and, written last, `result.json`; `<key>.checkpoint/` a training under way.
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
    """`result.json`: its presence means that artifact and rows are there, too."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    status: Literal["done", "not_measured"]
    reason: str | None = None
    """Why it was not measured."""
    config: TrainConfig
    data: dict[str, Any]
    """`Dataset.conditions`, and a sha256 of the very rows."""
    costs: Costs | None = None


@dataclass(frozen=True)
class SweepResult:
    """One configuration of a sweep, finished."""

    key: str
    folder: Path
    """The artifact, ready for `IntentClassifier.load`, with `rows.csv` and `result.json`; `result.json` alone where
    nothing was measured."""
    result: TrainingRecord

    @property
    def config(self) -> TrainConfig:
        """The configuration."""
        return self.result.config

    @property
    def measured(self) -> bool:
        """Whether the training could run here."""
        return self.result.status == "done"

    @property
    def reason(self) -> str | None:
        """Why it was not measured; None where it was."""
        return self.result.reason

    @property
    def costs(self) -> Costs:
        """Raises `NotMeasured` with the reason where there are none."""
        if self.result.costs is None:
            raise NotMeasured(f"{self.key} was not measured: {self.reason}")
        return self.result.costs

    def summary(self) -> str:
        """One line for people."""
        if not self.measured:
            return f"not measured: {self.reason}"
        return f"trained in {self.costs.seconds:.1f} s, after {self.costs.encode_seconds:.1f} s of embedding"

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of `rows.csv`, as text; none where nothing was measured."""
        if not self.measured:
            return []
        with (self.folder / ROWS).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def identity(data: Dataset) -> dict[str, Any]:
    """What makes two data sets the same for a sweep: name, counts, and a sha256 of labels, texts and their order."""
    content = [data.label_names, *([split.texts, split.labels] for split in (data.train, data.test))]
    return {**data.conditions(), "rows_sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()}


def read_outcome(key: str, config: TrainConfig, data: Dataset, folder: Path) -> SweepResult | None:
    """The measured outcome under that key; None where there is none (yet).

    Raises `UsageError` where it is of another configuration or other data, `RunError` where it is damaged.
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
        differences = "; ".join(f"{name} {stored.get(name)!r} there, {wanted[name]!r} here" for name in other)
        raise UsageError(
            f"{home} holds the result of another training under the same key: {differences}. Remove that folder to "
            "train anew, or sweep into another one."
        )
    try:
        result = TrainingRecord.model_validate(found)
    except (ValidationError, UsageError) as error:
        raise _damaged(path, error) from error
    whole = (home / TRAINING_FILE).is_file() and (home / ROWS).is_file()
    return SweepResult(key, home, result) if result.status == "done" and whole else None


def write_result(outcome: SweepResult) -> None:
    """Write `result.json`, whole or not at all."""
    write_text(outcome.folder / RESULT, outcome.result.model_dump_json(indent=2) + "\n")


def checkpoint_folder(key: str, folder: Path) -> Path:
    """Where the training of that key keeps its state."""
    return folder / f"{key}.checkpoint"


def has_state(key: str, folder: Path) -> bool:
    """Whether a training of that key can be carried on: at least one of its epochs is kept."""
    return any(checkpoint_folder(key, folder).glob(f"*/{STATE_FILE}"))


def remove_leftovers(key: str, folder: Path, *, finished: bool) -> None:
    """Remove what a killed training of that key left half-written, and what a finished one needs no more."""
    checkpoint = checkpoint_folder(key, folder)
    for path in [*folder.glob(f".{key}-????????"), *(folder / key).glob(".*.*"), *checkpoint.glob(".*.*")]:
        _remove(path)
    if checkpoint.is_dir() and (finished or not (checkpoint / FINGERPRINT_FILE).is_file()):
        _remove(checkpoint)


def remove_unfinished(home: Path) -> None:
    """Clear the way for a training: an artifact without its result, or the note that nothing could be measured."""
    if any((home / name).is_file() for name in (RESULT, TRAINING_FILE)):
        obsolete = home.with_name(f".{home.name}-obsolete")  # half a folder under its own name could not be told
        home.rename(obsolete)
        _remove(obsolete)


def remove_strays(folder: Path) -> None:
    """Remove the empty folders with which killed trainings tried whether they may write."""
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
        f"{path} is not a result of a sweep ({error}). It was edited or damaged; remove {path.parent} to train it anew."
    )
