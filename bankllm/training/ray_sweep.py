"""Run a sweep on several machines: one Ray task per configuration, with the results in one shared folder.

    outcomes = sweep_on_ray(plan, "banking77", Path("/shared/adapters"), address="10.0.0.5:6379")

Every node needs `pip install 'bankllm[cluster]'` and access to the shared folder. The folder has the same layout as
for `sweep`. A later local sweep therefore skips finished results and resumes interrupted trainings.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from bankllm import datasets
from bankllm.errors import BankLLMError, RunError, UsageError
from bankllm.training.config import TrainConfig
from bankllm.training.sweep import Evaluate, check_keys, lock_folder, train_one
from bankllm.training.sweep_results import SweepResult, read_outcome, remove_strays

LOCAL_STORE_BYTES = 80 * 2**20
"""Size of the object store of a local Ray instance: 80 MiB. It can be small because tasks exchange only keys and
settings; the results are files in the folder."""


def sweep_on_ray(
    plan: Mapping[str, TrainConfig],
    data_name: str,
    folder: Path,
    *,
    intents: int | None = None,
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    max_retries: int = 3,
    evaluate: Evaluate | None = None,
    progress: bool = True,
) -> list[SweepResult]:
    """Train each configuration into `folder/<key>` as a separate task. Finished configurations are skipped.

    - `data_name` and `intents` are the arguments of `datasets.load(data_name).first_intents(intents)`, which every node
      runs itself.
    - `address` is the address of the cluster, as `ray start --head` prints it. None starts Ray on the loopback
      interface of this machine, for the duration of this call.
    - A task gets `cpus` cores (Ray sets the number of torch threads to it) and `gpus` GPUs.
    - If a node or worker dies, its task runs again on another one, at most `max_retries` times. The task resumes from
      the last epoch in the folder.
    - `evaluate` is the same as for `sweep` and is sent to the nodes.

    Tasks do not share frozen embeddings; each task computes its own.
    Raises `UsageError` if Ray is not installed or the folder holds the result of another configuration, `RunError` if
    a task failed `max_retries` + 1 times or its node wrote to another folder, and any error of a training. The other
    tasks run until the error is raised; the folder keeps their finished epochs.
    """
    check_keys(plan)
    data = datasets.load(data_name).first_intents(intents)
    folder = folder.resolve()
    with lock_folder(folder), _connected_ray(address) as ray:
        remove_strays(folder)
        missing = [key for key, config in plan.items() if read_outcome(key, config, data, folder) is None]
        task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=max_retries)(_train_on_node)
        running = {
            task.remote(key, plan[key].model_dump(mode="json"), data_name, intents, str(folder), evaluate): key
            for key in missing
        }
        unmeasured: dict[str, SweepResult] = {}
        with tqdm(total=len(plan), initial=len(plan) - len(missing), desc="sweep", disable=not progress) as bar:
            while running:
                (reference,), _ = ray.wait(list(running), num_returns=1)
                key = running.pop(reference)
                outcome = _result(ray, reference, key, max_retries)
                if not outcome.measured:
                    unmeasured[key] = outcome
                bar.update()
    return [_outcome(key, config, data, folder, unmeasured) for key, config in plan.items()]


def _train_on_node(
    key: str, config: dict[str, Any], data_name: str, intents: int | None, folder: str, evaluate: Evaluate | None
) -> SweepResult:
    """Run one training on a node. The driver has created the folder, so a missing folder is not the shared one."""
    shared = Path(folder)
    if not shared.is_dir():
        raise RunError(f"The folder {shared} does not exist on this node. Choose a folder that every node can access.")
    data = datasets.load(data_name).first_intents(intents)
    outcome, _ = train_one(key, TrainConfig(**config), data, shared, evaluate=evaluate, progress=False)
    return outcome


def _result(ray: Any, reference: Any, key: str, max_retries: int) -> SweepResult:
    try:
        outcome: SweepResult = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, BankLLMError):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise RunError(
            f"The task {key} failed {max_retries + 1} times ({type(error).__name__}), because nodes died or ran out of "
            "memory. The folder keeps all finished epochs; run the sweep again to resume."
        ) from error
    return outcome


def _outcome(
    key: str, config: TrainConfig, data: datasets.Dataset, folder: Path, unmeasured: Mapping[str, SweepResult]
) -> SweepResult:
    outcome = unmeasured.get(key) or read_outcome(key, config, data, folder)
    if outcome is None:
        raise RunError(
            f"The task {key} ended, but its result is not in {folder}. Choose a folder that every node of the cluster "
            "can access."
        )
    return outcome


@contextlib.contextmanager
def _connected_ray(address: str | None) -> Iterator[Any]:
    """Yield the connected module `ray`, without telemetry and dashboard. An existing connection is reused."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "A sweep on a cluster needs Ray, which is not installed. Run: pip install 'bankllm[cluster]'"
        ) from error
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        local: dict[str, Any] = {
            "include_dashboard": False,
            "object_store_memory": LOCAL_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
        ray.init(address="local", **local, **quiet)
    else:
        try:
            ray.init(address=address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"No Ray cluster responds at {address} ({error}). Start a cluster with `ray start --head`, and pass "
                "the address that it prints."
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
