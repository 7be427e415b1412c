"""Train several configurations into one folder. A sweep can be interrupted at any time and resumed.

    outcomes = sweep({key: planned.config for key, planned in plan(profile).items()}, data, run.folder / "adapters")

A sweep takes minutes to hours, and machines can stop. The result of each training is complete on disk before the next
training begins. A new call with the same folder, also after SIGKILL, skips finished configurations and resumes the
interrupted one from its last epoch.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bankllm.datasets import Dataset
from bankllm.errors import NotMeasured, RunError, UsageError
from bankllm.evidence.records import write_rows
from bankllm.profiles import Profile
from bankllm.training.cached_layers import FrozenEmbeddings
from bankllm.training.config import TrainConfig
from bankllm.training.sweep_progress import SweepBar
from bankllm.training.sweep_results import (
    ROWS,
    SweepResult,
    TrainingRecord,
    checkpoint_folder,
    has_state,
    identity,
    read_outcome,
    remove_leftovers,
    remove_strays,
    remove_unfinished,
    write_result,
)
from bankllm.training.train import TrainResult, train

TIMEOUT_S = 20.0
"""Seconds that a sweep waits for the lock on its folder. After a run is killed, its notebook kernel can keep the lock
for a second or two."""

Evaluate = Callable[[TrainResult], Sequence[Mapping[str, object]]]
"""Turns the result of a training into the rows of its `rows.csv`."""


@dataclass(frozen=True)
class PlannedTraining:
    """One training that a profile asks for."""

    name: str
    """Display name of the configuration, without the seed: `LoRA r=8`."""
    id: str
    """Name of the configuration as part of a record id: `lora_r8`."""
    label: str
    """Display name, with the seed if there are several seeds: `LoRA r=8 seed 2`."""
    config: TrainConfig


def plan(profile: Profile, only: Sequence[str] = ()) -> dict[str, PlannedTraining]:
    """List the trainings of a profile: key (name of the result folder) → training, in the order of the profile.

    The seeds of a configuration are consecutive. `only` selects configurations by id; empty selects all.
    Raises `UsageError` for an unknown id.
    """
    ids = [entry.id_of() for entry in profile.training]
    if unknown := sorted(set(only) - set(ids)):
        raise UsageError(
            f"The profile {profile.name} has no configuration {', '.join(unknown)}. Choose from: {', '.join(ids)}."
        )
    return {
        entry.key(seed): PlannedTraining(
            entry.name_of(),
            entry.id_of(),
            entry.label(seed),
            TrainConfig.model_validate(
                {
                    "method": entry.method,
                    "epochs": entry.epochs,
                    "seed": seed,
                    **({"rank": entry.rank} if entry.rank else {}),
                    **entry.options,
                }
            ),
        )
        for entry in profile.training
        for seed in entry.seeds
        if not only or entry.id_of() in only
    }


def sweep(
    plan: Mapping[str, TrainConfig],
    data: Dataset,
    folder: Path,
    *,
    evaluate: Evaluate | None = None,
    report: Callable[[SweepResult], None] = lambda outcome: None,
    progress: bool = True,
) -> list[SweepResult]:
    """Train each configuration into `folder/<key>`, in order. Configurations with a finished result are skipped.

    - `evaluate` receives each `TrainResult` and returns the rows of its `rows.csv`. Without `evaluate`, the rows are
      the predictions for `data.test`.
    - `report` is called with each outcome after the outcome is on disk, also for skipped configurations.

    A training that cannot run on this machine (`NotMeasured`) becomes an outcome with the reason. The next call tries
    it again. The frozen embeddings of the training texts are computed once per call and shared. The results do not
    depend on interruptions, and an interruption repeats at most one epoch.
    Raises `UsageError` if `folder/<key>` holds the result of another configuration or data set, `RunError` if another
    process runs a sweep in the folder, and every error of `train`.
    """
    check_keys(plan)
    with lock_folder(folder):
        remove_strays(folder)
        finished = {key: read_outcome(key, config, data, folder) for key, config in plan.items()}
        embeddings = _SharedEmbeddings()
        outcomes = []
        with SweepBar(plan, progress) as bar:
            for key, config in plan.items():
                outcome, began = finished[key], time.perf_counter()
                bar.start(key)
                if outcome is None:
                    fresh = not has_state(key, folder)
                    outcome, frozen = train_one(
                        key,
                        config,
                        data,
                        folder,
                        frozen=embeddings.get(config),
                        evaluate=evaluate,
                        progress=progress,
                    )
                    embeddings.keep(config, frozen)
                    # The time of a resumed training does not predict the time of the others.
                    bar.finish(key, time.perf_counter() - began if fresh and outcome.measured else None)
                else:
                    remove_leftovers(key, folder, finished=True)
                    bar.finish(key, outcome.costs.total_seconds)
                report(outcome)
                outcomes.append(outcome)
    return outcomes


def train_one(
    key: str,
    config: TrainConfig,
    data: Dataset,
    folder: Path,
    *,
    frozen: FrozenEmbeddings | None = None,
    evaluate: Evaluate | None = None,
    progress: bool = True,
) -> tuple[SweepResult, FrozenEmbeddings | None]:
    """Train one configuration of a sweep, or resume it from its files.

    Returns the outcome, and the frozen embeddings that were computed or passed in. The caller must ensure that no other
    process works on the same key: `sweep` locks the folder, and a Ray cluster runs a task only once at a time.
    """
    if (finished := read_outcome(key, config, data, folder)) is not None:
        remove_leftovers(key, folder, finished=True)
        return finished, frozen
    home = folder / key
    remove_leftovers(key, folder, finished=False)
    remove_unfinished(home)
    try:
        result = train(config, data, home, progress, frozen, checkpoints=checkpoint_folder(key, folder))
    except NotMeasured as reason:
        outcome = SweepResult(
            key, home, TrainingRecord(status="not_measured", reason=str(reason), config=config, data=identity(data))
        )
        write_result(outcome)
        return outcome, frozen
    outcome = SweepResult(
        key, home, TrainingRecord(status="done", config=config, data=identity(data), costs=result.costs)
    )
    write_rows(home / ROWS, result.predictions if evaluate is None else evaluate(result))
    write_result(outcome)
    remove_leftovers(key, folder, finished=True)  # only after the result is complete: until then a resume needs them
    return outcome, result.frozen


def check_keys(keys: Mapping[str, object]) -> None:
    """Raise `UsageError` for a key that is not a valid folder name, or that would collide with a checkpoint folder."""
    for key in keys:
        if not re.fullmatch(r"\w[\w.-]*", key, re.ASCII) or key.endswith(".checkpoint"):
            raise UsageError(
                f"The configuration key {key!r} cannot be used as a folder name. Use letters, digits, _, - and dots; "
                "the key must not end in .checkpoint."
            )


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock the folder against other sweeps, with `flock` on the folder itself, so no lock file remains.

    The operating system releases the lock when the process ends for any reason. Raises `RunError` if another sweep
    still holds the lock after `TIMEOUT_S`, or if the folder cannot be created or opened.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(
            f"The sweep cannot write to {folder} ({os.strerror(error.errno or 0)}). Choose a writable folder."
        ) from error
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not _locked(handle):
            if time.monotonic() > deadline:
                raise RunError(
                    f"Another process is running a sweep in {folder}. Wait until it ends, stop it, or choose another "
                    "folder."
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    """Try to lock the open folder without waiting. Returns whether the lock was acquired."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _SharedEmbeddings:
    """Frozen embeddings per base model, pooling and `max_length`. QLoRA has separate ones, from the base in 4 bits."""

    def __init__(self) -> None:
        self._by_key: dict[tuple[object, ...], FrozenEmbeddings] = {}

    def get(self, config: TrainConfig) -> FrozenEmbeddings | None:
        """Return embeddings for this configuration if there are any. `train` checks that they are sufficient."""
        return self._by_key.get(self._key(config))

    def keep(self, config: TrainConfig, frozen: FrozenEmbeddings | None) -> None:
        """Store the embeddings that a training returned."""
        if frozen is not None:
            self._by_key[self._key(config)] = frozen

    @staticmethod
    def _key(config: TrainConfig) -> tuple[object, ...]:
        return config.method == "qlora", config.base_model, config.pooling, config.max_length
