"""Run a sweep on several machines: one Ray task per configuration, with the results in one shared folder.

    bankllm benchmark --ray 10.0.0.5:6379 --output /shared/outputs

Every node needs `pip install 'bankllm[cluster]'` and access to the shared folder. The folder has the same layout as
for `sweep`, so a later local sweep skips finished results and resumes interrupted trainings.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from bankllm import datasets
from bankllm.errors import BankLLMError, RunError, UsageError
from bankllm.training.config import TrainConfig
from bankllm.training.sweep import Evaluate, SweepResult, check_keys, lock_folder, read_outcome, train_one

MAX_RETRIES = 3
"""How often a task runs again after its node or worker has died."""


def sweep_on_ray(
    plan: Mapping[str, TrainConfig],
    data_name: str,
    folder: Path,
    *,
    address: str,
    intents: int | None = None,
    evaluate: Evaluate | None = None,
    report: Callable[[SweepResult], None] = lambda outcome: None,
    progress: bool = True,
) -> list[SweepResult]:
    """Train each configuration into `folder/<key>` as a separate task. Finished configurations are skipped.

    Every node loads `datasets.load(data_name).first_intents(intents)` itself. `address` is the address of the cluster,
    as `ray start --head` prints it. `evaluate`, which is sent to the nodes, and `report` are the same as for `sweep`.
    If a node dies, its tasks resume on another one from the last epoch in the folder.
    Raises `UsageError` if Ray is not installed, no cluster responds or the folder holds the result of another
    configuration, `RunError` if a task failed `MAX_RETRIES` + 1 times or its node wrote to another folder, and any
    error of a training.
    """
    check_keys(plan)
    data = datasets.load(data_name).first_intents(intents)
    folder = folder.resolve()
    with lock_folder(folder), connect_ray(address) as ray:
        finished = {key: read_outcome(key, config, data, folder) for key, config in plan.items()}
        task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_train_on_node)
        running = {
            task.remote(key, plan[key].model_dump(mode="json"), data_name, intents, str(folder), evaluate): key
            for key, outcome in finished.items()
            if outcome is None
        }
        for outcome in filter(None, finished.values()):
            report(outcome)
        with tqdm(total=len(plan), initial=len(plan) - len(running), desc="sweep", disable=not progress) as bar:
            while running:
                (reference,), _ = ray.wait(list(running), num_returns=1)
                key = running.pop(reference)
                outcome = task_result(ray, reference, key)
                if outcome.measured and read_outcome(key, plan[key], data, folder) is None:
                    raise RunError(
                        f"The task {key} ended, but its result is not in {folder}. Choose a folder that every node of "
                        "the cluster can access."
                    )
                finished[key] = outcome
                report(outcome)
                bar.update()
    return [outcome for outcome in finished.values() if outcome is not None]


def _train_on_node(
    key: str, config: dict[str, Any], data_name: str, intents: int | None, folder: str, evaluate: Evaluate | None
) -> SweepResult:
    """Run one training on a node. The driver has created the folder, so a missing folder is not the shared one."""
    shared = Path(folder)
    if not shared.is_dir():
        raise RunError(f"The folder {shared} does not exist on this node. Choose a folder that every node can access.")
    data = datasets.load(data_name).first_intents(intents)
    return train_one(key, TrainConfig(**config), data, shared, evaluate=evaluate, progress=False)[0]


def task_result(ray: Any, reference: Any, key: str) -> SweepResult:
    """Return what a task returned. An error of `bankllm` is raised as it was on the node."""
    try:
        outcome: SweepResult = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BankLLMError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise RunError(
            f"The task {key} failed {MAX_RETRIES + 1} times ({type(error).__name__}), because nodes died or ran out of "
            "memory. The folder keeps all finished epochs; run the sweep again to resume."
        ) from error
    return outcome


@contextlib.contextmanager
def connect_ray(address: str) -> Iterator[Any]:
    """Yield the module `ray`, connected to the cluster at `address`, without telemetry.

    Raises `UsageError` if Ray is not installed or no cluster responds.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "A sweep on a cluster needs Ray, which is not installed. Run: pip install 'bankllm[cluster]'"
        ) from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"No Ray cluster responds at {address} ({error}). Start a cluster with `ray start --head`, and pass the "
            "address that it prints."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
