"""Many trainings in one folder, each with all of its result on disk before the next begins.

outcomes = sweep({key: planned.config for key, planned in plan(profile).items()}, data, run.folder / "adapters")

Why: a sweep takes minutes to hours, and machines stop. Called again with the same folder, even after SIGKILL, it
skips what is finished and carries the interrupted configuration on from its last epoch.
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
from bankllm.training.cached_layers import Frozen
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
"""How long a sweep waits for its folder: the kernel of a killed run outlives it by a second or two."""

Evaluate = Callable[[TrainResult], Sequence[Mapping[str, object]]]


@dataclass(frozen=True)
class Planned:
    """One training that a profile asks for."""

    name: str
    """What people call the configuration, whatever the seed: `LoRA r=8`."""
    id: str
    """The same as part of a record's id: `lora_r8`."""
    label: str
    """With the seed, where there are several: `LoRA r=8 seed 2`."""
    config: TrainConfig


def plan(profile: Profile, only: Sequence[str] = ()) -> dict[str, Planned]:
    """Key (a folder's name) → training, in the profile's order; the seeds of a configuration follow each other.

    `only` names configurations by their id, and leaves out the others. Raises `UsageError` for an unknown one.
    """
    ids = [entry.id_of() for entry in profile.training]
    if unknown := sorted(set(only) - set(ids)):
        raise UsageError(
            f"The profile {profile.name} has no configuration {', '.join(unknown)}. It has: {', '.join(ids)}."
        )
    return {
        entry.key(seed): Planned(
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
    """Train each configuration into `folder/<key>`, in order, but for those that are finished there.

    `evaluate` gets each `TrainResult` and gives the rows of its `rows.csv`; without it they are the predictions for
    `data.test`. `report` hears of each outcome once it is on disk, of a finished one at its turn.
    A training that cannot run here (`NotMeasured`) becomes an outcome with its reason; the next call tries it again.
    The frozen base's embeddings of the training texts are made once a call and shared. What comes out does not
    depend on interruptions, and an interruption costs an epoch at most.
    Raises `UsageError` where `folder/<key>` holds another configuration's or data set's result, `RunError` where
    another process sweeps into the folder, and what `train` raises.
    """
    check_keys(plan)
    with only_sweep(folder):
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
                    # What was carried on says nothing about how long the others take.
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
    frozen: Frozen | None = None,
    evaluate: Evaluate | None = None,
    progress: bool = True,
) -> tuple[SweepResult, Frozen | None]:
    """One configuration of a sweep, from where its files say it stands to the end.

    Also returns the frozen embeddings that it made or was given. The caller sees to it that no other process works
    on the same key: `sweep` holds the folder, a Ray cluster runs a task once at a time.
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
    remove_leftovers(key, folder, finished=True)  # only now: until here, the checkpoint is all that counts
    return outcome, result.frozen


def check_keys(keys: Mapping[str, object]) -> None:
    """Raise `UsageError` for a key that cannot name a folder beside the others."""
    for key in keys:
        if not re.fullmatch(r"\w[\w.-]*", key, re.ASCII) or key.endswith(".checkpoint"):
            raise UsageError(
                f"The configuration's key {key!r} cannot name a folder. Expected letters, digits, _, - and dots, "
                "not ending in .checkpoint."
            )


@contextlib.contextmanager
def only_sweep(folder: Path) -> Iterator[None]:
    """Hold the folder against other sweeps, without leaving a file there: flock on the folder itself.

    The lock ends with the process, whatever ended it. Raises `RunError` if another sweep stays in the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(
            f"No sweep can be written to {folder} ({os.strerror(error.errno or 0)}). Name a folder that you may write "
            "to."
        ) from error
    try:
        give_up = time.monotonic() + TIMEOUT_S
        while not _locked(handle):
            if time.monotonic() > give_up:
                raise RunError(
                    f"Another process is sweeping into {folder}. Wait until it is done or end it, or name another "
                    "folder."
                )
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class _SharedEmbeddings:
    """Frozen embeddings by what they are of. QLoRA's are of the base in 4 bits, so it has its own."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Frozen] = {}

    def get(self, config: TrainConfig) -> Frozen | None:
        """What `config` may be trained with, if something was made; `train` checks that it suffices."""
        return self._made.get(self._of(config))

    def keep(self, config: TrainConfig, frozen: Frozen | None) -> None:
        """Keep what a training made or was given."""
        if frozen is not None:
            self._made[self._of(config)] = frozen

    @staticmethod
    def _of(config: TrainConfig) -> tuple[object, ...]:
        return config.method == "qlora", config.base_model, config.pooling, config.max_length
