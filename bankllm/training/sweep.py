"""Train several configurations into one folder. A sweep can be interrupted at any time and resumed.

    outcomes = sweep({key: planned.config for key, planned in plan(profile).items()}, data, run.folder / "adapters")

Each artifact appears with one rename; until then, `<key>.checkpoint` holds the state after the last epoch. A new call,
also after SIGKILL, skips finished configurations and resumes the interrupted one.
"""

import contextlib
import csv
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from tqdm.auto import tqdm

from bankllm.datasets import Dataset
from bankllm.errors import NotMeasured, RunError, UsageError
from bankllm.model.artifact import TRAINING_FILE, read_artifact
from bankllm.profiles import Profile
from bankllm.training.artifact_records import COST, Costs
from bankllm.training.cached_layers import FrozenCache
from bankllm.training.checkpoint import made_from, refuse_other
from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS
from bankllm.training.model_card import ROWS
from bankllm.training.train import Rows, TrainResult, train

TIMEOUT_S = 20.0
"""Seconds that a sweep waits for the lock on its folder. A killed notebook's kernel keeps it for a second or two."""
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
        return Costs.model_validate(_read(self.folder / COST)[0])

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of `rows.csv`, all values as text; empty if the training was not measured."""
        return [] if self.reason else _read(self.folder / ROWS)

    def summary(self) -> str:
        if self.reason:
            return f"not measured: {self.reason}"
        return f"trained in {self.costs.seconds:.1f} s, after {self.costs.encode_seconds:.1f} s of embedding"


class PlannedTraining(NamedTuple):
    name: str
    """Display name of the configuration, without the seed: `LoRA r=8`."""
    id: str
    """Name of the configuration as part of a record id: `lora_r8`."""
    label: str
    """Display name, with the seed if there are several: `LoRA r=8 seed 2`."""
    config: TrainConfig


def plan(profile: Profile, only: Sequence[str] = ()) -> dict[str, PlannedTraining]:
    """List the trainings of a profile: key (name of the result folder) → training, in the order of the profile.

    The seeds of a configuration are consecutive. `only` selects configurations by id; empty selects all.
    Raises `UsageError` for an unknown id.
    """
    planned = {}
    ids = []
    for entry in profile.training:
        options = {"method": entry.method, "epochs": entry.epochs, **entry.options}
        config = TrainConfig.model_validate({**options, **({"rank": entry.rank} if entry.rank else {})})
        method = METHODS.get(entry.method)
        name = entry.name or method.title(config)
        id = entry.method + (f"_r{config.rank}" if method.ranked else "")
        if entry.name:
            id = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
        ids.append(id)
        for seed in entry.seeds:
            several = len(entry.seeds) > 1
            label, key = (name + f" seed {seed}", f"{id}_s{seed}") if several else (name, id)
            planned[key] = PlannedTraining(name, id, label, config.model_copy(update={"seed": seed}))
    if unknown := sorted(set(only) - set(ids)):
        raise UsageError(
            f"The profile {profile.name} has no configuration {', '.join(unknown)}. Choose from: {', '.join(ids)}."
        )
    return {key: training for key, training in planned.items() if not only or training.id in only}


def sweep(
    plan: Mapping[str, TrainConfig],
    data: Dataset,
    folder: Path,
    *,
    evaluate: Evaluate | None = None,
    report: Callable[[SweepResult], None] = lambda outcome: None,
    progress: bool = True,
) -> list[SweepResult]:
    """Train each configuration into `folder/<key>`. Configurations with a finished result are skipped.

    - `evaluate` makes the rows of each `rows.csv`. Without it, they are the predictions for `data.test`.
    - `report` is called with each outcome when it is on disk, also for skipped configurations.

    A training that cannot run on this machine (`NotMeasured`) becomes an outcome with the reason.
    Raises `UsageError` if a key is no folder name or `folder/<key>` holds another result, `RunError` if another process
    runs a sweep in the folder, and every error of `train`.
    """
    for key in plan:
        if not re.fullmatch(r"\w[\w.-]*", key, re.ASCII) or key.endswith(".checkpoint"):
            raise UsageError(
                f"The configuration key {key!r} cannot be used as a folder name. Use letters, digits, _, - and dots; "
                "the key must not end in .checkpoint."
            )
    with lock_folder(folder):
        for key, config in plan.items():
            _read_outcome(key, config, data, folder)  # a wrong folder fails here, before any training
        frozen, outcomes = FrozenCache(), []
        for key, config in tqdm(plan.items(), desc="sweep", unit="training", disable=not progress):
            outcomes.append(_train_one(key, config, data, folder, evaluate, progress, frozen))
            report(outcomes[-1])
    return outcomes


def _train_one(
    key: str,
    config: TrainConfig,
    data: Dataset,
    folder: Path,
    evaluate: Evaluate | None,
    progress: bool,
    frozen: FrozenCache,
) -> SweepResult:
    """Train one configuration, or resume it from its files. Trainings share `frozen`, see `train`."""
    for unfinished in folder.glob(f".{key}-????????"):  # of a process that was killed while it wrote
        shutil.rmtree(unfinished)
    for unfinished in folder.glob(f".{key}.checkpoint.*"):
        unfinished.unlink()
    outcome, checkpoint = _read_outcome(key, config, data, folder), folder / f"{key}.checkpoint"
    if outcome is None:
        outcome, rows = SweepResult(key, folder / key, config), evaluate or (lambda result: result.predictions)
        try:
            train(config, data, outcome.folder, progress, checkpoint, evaluate=rows, frozen=frozen)
        except NotMeasured as reason:
            return replace(outcome, reason=str(reason))
    checkpoint.unlink(missing_ok=True)
    return outcome


def _read_outcome(key: str, config: TrainConfig, data: Dataset, folder: Path) -> SweepResult | None:
    """Read the finished outcome of a key; None if there is none.

    Raises `UsageError` if the artifact was made from another configuration or data set, and `ModelError` if it is
    damaged.
    """
    home = folder / key
    if not (home / TRAINING_FILE).is_file():
        return None
    refuse_other(read_artifact(home).training, made_from(config, data), home)
    return SweepResult(key, home, config) if (home / ROWS).is_file() else None


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock the folder against other sweeps, with `flock` on the folder itself, so no lock file remains.

    Raises `RunError` if another sweep still holds the lock after `TIMEOUT_S`, or if the folder cannot be opened.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(
            f"The sweep cannot write to {folder} ({os.strerror(error.errno or 0)}). Choose a writable folder."
        ) from error
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(BlockingIOError), wait=wait_fixed(0.1), stop=stop_after_delay(TIMEOUT_S)
        ):
            with attempt:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except RetryError:
        raise RunError(
            f"Another process is running a sweep in {folder}. Wait until it ends, stop it, or choose another folder."
        ) from None
    finally:
        os.close(handle)


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
