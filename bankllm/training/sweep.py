"""Train several configurations into one folder. A sweep can be interrupted at any time and resumed.

    outcomes = sweep({key: planned.config for key, planned in plan(profile).items()}, data, run.folder / "adapters")

Each artifact appears with one rename; until then, `<key>.checkpoint` holds the state after the last epoch. A new call,
also after SIGKILL, skips finished configurations and resumes the interrupted one.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed
from tqdm.auto import tqdm

from bankllm.datasets import Dataset
from bankllm.errors import RunError, UsageError, explained
from bankllm.profiles import Profile
from bankllm.training.cached_layers import FrozenCache
from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS
from bankllm.training.sweep_result import Evaluate, SweepResult, read_outcome, train_one

TIMEOUT_S = 20.0
"""Seconds that a sweep waits for the lock on its folder. A killed notebook's kernel keeps it for a second or two."""


class PlannedTraining(NamedTuple):
    name: str
    """Display name of the configuration, without the seed: `LoRA r=8`."""
    id: str
    """Name of the configuration as part of a record id: `lora_r8`."""
    label: str
    """Display name, with the seed if there are several: `LoRA r=8 seed 2`."""
    config: TrainConfig


def language_ids(profile: Profile) -> list[str]:
    """Ids of the language models of a profile, such as `language_lora_r8`, in the order of `profile.language`."""
    return [f"language_{entry.method}_r{entry.rank}" for entry in profile.language]


def plan(profile: Profile, only: Sequence[str] = ()) -> dict[str, PlannedTraining]:
    """List the trainings of a profile: key (name of the result folder) → training, in the order of the profile.

    The seeds of a configuration are consecutive. `only` selects configurations by id, and may also name language
    models (`language_ids`); empty selects all. Raises `UsageError` for an unknown id.
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
    ids += language_ids(profile)
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
    ray: str | None = None,
) -> list[SweepResult]:
    """Train each configuration into `folder/<key>`. Configurations with a finished result are skipped.

    - `evaluate` makes the rows of each `rows.csv`. Without it, they are the predictions for `data.test`.
    - `report` is called with each outcome when it is on disk, also for skipped configurations.
    - `ray`: address of a Ray cluster whose nodes train, and share the folder. Without it, this process trains.

    A training that cannot run on this machine (`NotMeasured`) becomes an outcome with the reason.
    Raises `UsageError` if a key is no folder name or `folder/<key>` holds another result, `RunError` if another process
    runs a sweep in the folder, and every error of `train` and of `train_on_cluster`.
    """
    for key in plan:
        if not re.fullmatch(r"\w[\w.-]*", key, re.ASCII) or key.endswith(".checkpoint"):
            raise UsageError(
                f"The configuration key {key!r} cannot be used as a folder name. Use letters, digits, _, - and dots; "
                "the key must not end in .checkpoint."
            )
    with lock_folder(folder):
        for key, config in plan.items():
            read_outcome(key, config, data, folder)  # a wrong folder fails here, before any training
        if ray:
            from bankllm.training.ray_sweep import train_on_cluster

            trainings = train_on_cluster(plan, data, folder, evaluate, ray)
        else:
            frozen = FrozenCache()
            trainings = (
                train_one(key, config, data, folder, evaluate, progress, frozen) for key, config in plan.items()
            )
        outcomes = {}
        for outcome in tqdm(trainings, desc="sweep", unit="training", total=len(plan), disable=not progress):
            report(outcome)
            outcomes[outcome.key] = outcome
    return [outcomes[key] for key in plan]


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock the folder against other sweeps, with `flock` on the folder itself, so no lock file remains.

    Raises `RunError` if another sweep still holds the lock after `TIMEOUT_S`, or if the folder cannot be opened.
    """
    with explained(RunError, f"The sweep cannot write to {folder}", "Choose a writable folder.", OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
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
