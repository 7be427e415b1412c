"""The sweep on several machines: each configuration a task of a Ray cluster, results in one shared folder.

outcomes = sweep_on_ray(plan, "banking77", Path("/shared/adapters"), address="10.0.0.5:6379")

Needs `pip install 'bankllm[cluster]'` on every node, and a folder that all of them see. The folder looks as `sweep`
leaves it, so a local sweep finds the results finished, and carries on what a stopped cluster left.
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
from bankllm.training.sweep import Evaluate, check_keys, only_sweep, train_one
from bankllm.training.sweep_results import SweepResult, read_outcome, remove_strays

LOCAL_STORE_BYTES = 80 * 2**20
"""Object store of a local instance: tasks pass keys and settings, results travel through the folder."""


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
    """Train each configuration into `folder/<key>` as a task of its own; those that are finished there are skipped.

    `data_name` and `intents` are for `datasets.load(…).first_intents(…)`, which each node does itself. `address` is
    the cluster's, as `ray start --head` prints it; None starts Ray on this machine, on loopback, for this call alone.
    A task gets `cpus` cores (Ray sets torch's threads to them) and `gpus` GPUs. Where a node or worker dies, its task
    is run again on another, at most `max_retries` times, and carries on from the epoch that the folder holds.
    `evaluate` is as for `sweep`, and is sent to the nodes. Tasks share no embeddings: each makes its own.
    Raises `UsageError` where Ray is missing or the folder holds another configuration's result, `RunError` where a
    task was lost for good or its node wrote elsewhere, and what a training raises; the other tasks go on until then.
    """
    check_keys(plan)
    data = datasets.load(data_name).first_intents(intents)
    folder = folder.resolve()
    with only_sweep(folder), _ray(address) as ray:
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
    """What a node does. The folder must be there already: otherwise it is not the one that the driver sees."""
    shared = Path(folder)
    if not shared.is_dir():
        raise RunError(f"{shared} is not on this node. Name a folder that every node of the cluster sees.")
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
            f"The task of {key} was lost {max_retries + 1} times ({type(error).__name__}): nodes died, or ran out of "
            "memory. The folder keeps what is done; call again to carry on."
        ) from error
    return outcome


def _outcome(
    key: str, config: TrainConfig, data: datasets.Dataset, folder: Path, unmeasured: Mapping[str, SweepResult]
) -> SweepResult:
    outcome = unmeasured.get(key) or read_outcome(key, config, data, folder)
    if outcome is None:
        raise RunError(
            f"The task of {key} ended, but its result is not in {folder}. Name a folder that every node of the "
            "cluster sees."
        )
    return outcome


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected; without telemetry and dashboard. A connection that was there is left as it is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "A sweep on a cluster needs Ray, which is not installed. Install it with: pip install 'bankllm[cluster]'"
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
                f"No Ray cluster answers at {address} ({error}). Start one with `ray start --head`, and name the "
                "address that it prints."
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
