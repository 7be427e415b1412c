"""One training of a sweep: its outcome, as its folder on disk holds it, and the function that makes or resumes it."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bankllm.datasets import Dataset
from bankllm.errors import NotMeasured
from bankllm.evidence.raw_files import read_table
from bankllm.model.artifact import TRAINING_FILE, read_artifact
from bankllm.training.artifact_records import COST, Costs
from bankllm.training.cached_layers import FrozenCache
from bankllm.training.checkpoint import made_from, refuse_other
from bankllm.training.config import TrainConfig
from bankllm.training.model_card import ROWS
from bankllm.training.train import Rows, TrainResult, train

Evaluate = Callable[[TrainResult], Rows]
"""Turns the result of a training into the rows of its `rows.csv`."""


@dataclass(frozen=True)
class SweepResult:
    key: str
    folder: Path
    """The artifact folder, which `IntentClassifier.load` accepts. Missing if the training was not measured."""
    config: TrainConfig
    reason: str | None = None
    """Why the training was not measured; None if it was."""

    @property
    def measured(self) -> bool:
        return self.reason is None

    @property
    def costs(self) -> Costs:
        """Raises `NotMeasured` with the reason if the training was not measured."""
        if self.reason:
            raise NotMeasured(f"{self.key} was not measured: {self.reason}")
        return Costs.model_validate(read_table(self.folder / COST, COST)[0])

    @property
    def rows(self) -> Sequence[dict[str, str]]:
        """The rows of `rows.csv`, all values as text; empty if the training was not measured."""
        return [] if self.reason else read_table(self.folder / ROWS, ROWS)

    def summary(self) -> str:
        if self.reason:
            return f"not measured: {self.reason}"
        return f"trained in {self.costs.seconds:.1f} s, after {self.costs.encode_seconds:.1f} s of embedding"


def train_one(
    key: str,
    config: TrainConfig,
    data: Dataset,
    folder: Path,
    evaluate: Evaluate | None,
    progress: bool,
    frozen: FrozenCache | None = None,
) -> SweepResult:
    """Train one configuration of a sweep, or resume it from its files. Trainings share `frozen`, see `train`.

    No other process may work on the same key: `sweep` locks the folder, and Ray runs a task only once at a time.
    """
    for unfinished in folder.glob(f".{key}-????????"):  # of a process that was killed while it wrote
        shutil.rmtree(unfinished)
    for unfinished in folder.glob(f".{key}.checkpoint.*"):
        unfinished.unlink()
    outcome, checkpoint = read_outcome(key, config, data, folder), folder / f"{key}.checkpoint"
    if outcome is None:
        outcome, rows = SweepResult(key, folder / key, config), evaluate or (lambda result: result.predictions)
        try:
            train(config, data, outcome.folder, progress, checkpoint, evaluate=rows, frozen=frozen)
        except NotMeasured as reason:
            return replace(outcome, reason=str(reason))
    checkpoint.unlink(missing_ok=True)
    return outcome


def read_outcome(key: str, config: TrainConfig, data: Dataset, folder: Path) -> SweepResult | None:
    """Read the finished outcome of a key; None if there is none.

    Raises `UsageError` if the artifact was made from another configuration or data set, and `ModelError` if it is
    damaged.
    """
    home = folder / key
    if not (home / TRAINING_FILE).is_file():
        return None
    refuse_other(read_artifact(home).training, made_from(config, data), home)
    return SweepResult(key, home, config) if (home / ROWS).is_file() else None
