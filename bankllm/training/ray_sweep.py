"""The trainings of a sweep as tasks of a Ray cluster, with the results in a folder that all nodes share.

    bankllm benchmark --ray 10.0.0.5:6379 --output /shared/outputs

Every node needs `pip install 'bankllm[cluster]'`.
"""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bankllm.datasets import Dataset
from bankllm.errors import BankLLMError, RunError, UsageError, explained
from bankllm.training.config import TrainConfig
from bankllm.training.sweep_result import Evaluate, SweepResult, read_outcome, train_one

MAX_RETRIES = 3
"""How often a task runs again after its node or worker has died. It resumes from the last epoch in the folder."""


def train_on_cluster(
    plan: Mapping[str, TrainConfig], data: Dataset, folder: Path, evaluate: Evaluate | None, address: str
) -> Iterator[SweepResult]:
    """Train each configuration in a task with one core, and yield the outcomes in the order in which the tasks end.

    Raises `UsageError` if Ray is not installed or no cluster responds at `address`, `RunError` if a task failed
    `MAX_RETRIES` + 1 times or its node wrote to another folder, and any error of a training.
    """
    with connect_ray(address) as ray:
        task = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_train_on_node)
        shared, running = ray.put(data), {}
        for key, config in plan.items():
            running[task.remote(key, config.model_dump(mode="json"), shared, str(folder.resolve()), evaluate)] = key
        while running:
            (reference,), _ = ray.wait(list(running), num_returns=1)
            key = running.pop(reference)
            outcome = task_result(ray, reference, key)
            if outcome.measured and read_outcome(key, plan[key], data, folder) is None:
                raise RunError(
                    f"The task {key} ended, but its result is not in {folder}. Choose a folder that every node of the "
                    "cluster can access."
                )
            yield outcome


def _train_on_node(
    key: str, config: dict[str, Any], data: Dataset, folder: str, evaluate: Evaluate | None
) -> SweepResult:
    """Run one training on a node. The driver has created the folder, so a missing folder is not the shared one."""
    if not Path(folder).is_dir():
        raise RunError(f"The folder {folder} does not exist on this node. Choose a folder that every node can access.")
    return train_one(key, TrainConfig(**config), data, Path(folder), evaluate, progress=False)


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
    advice = "Start a cluster with `ray start --head`, and pass the address that it prints."
    with explained(UsageError, f"No Ray cluster responds at {address}", advice):
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=10).close()  # `ray.init` would try for minutes
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield ray
    finally:
        ray.shutdown()
