"""A sweep on a real Ray cluster of two nodes on this machine, one of which is killed during the sweep."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tenacity import Retrying, stop_after_delay
from typer.testing import CliRunner

from bankllm.cli import app
from bankllm.errors import UsageError
from bankllm.training.checkpoint import Checkpoint
from bankllm.training.config import TrainConfig
from bankllm.training.sweep import sweep
from bankllm.training.train import TrainResult
from tests.support.server_client import until
from tests.support.small_training import three_intents

LONG = {name: TrainConfig(rank=2, epochs=3, batch_size=8, seed=seed) for seed, name in enumerate(("two", "three"))}
PLAN = {**LONG, "one": TrainConfig(method="probe")}
TASK = "ray::_train_on_node"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head node and a worker node with one core each, on loopback. Afterwards none of their processes remains.

    The last test that uses the cluster kills the worker node.
    """
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 127.0.0.1 stays 127.0.0.1
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'bankllm[cluster]'")
    from ray.cluster_utils import Cluster

    before = set(psutil.Process().children(recursive=True))

    def kill_all_nodes(attempt: object = None) -> None:
        remaining = set(psutil.Process().children(recursive=True)) - before
        for process in remaining:
            process.kill()
        assert psutil.wait_procs(remaining, timeout=60)[1] == []

    common = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}
    # The head detects a killed node, whose connection is refused, within 3 s; a slow node has 20 s to answer.
    health = {"health_check_period_ms": 500, "health_check_timeout_ms": 20_000, "health_check_failure_threshold": 5}
    head = {"_system_config": health, "include_dashboard": False}
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes cannot import tests
    try:
        # Ray waits 30 s for a node, in which a busy machine may not start one.
        for attempt in Retrying(stop=stop_after_delay(120), after=kill_all_nodes, reraise=True):
            with attempt:
                cluster = Cluster(initialize_head=True, head_node_args={**common, **head})
                cluster.add_node(**common)
        yield cluster
        cluster.shutdown()
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        ray.shutdown()
        monkeypatch.undo()
        kill_all_nodes()


class HeldAfterAnEpoch:
    """An `evaluate` function that adds the node id to each row.

    On a node where it is unpickled, each training waits after its first epoch until the other node has died. Both
    trainings are therefore unfinished when the node dies, on a machine of any speed.
    """

    def __init__(self, dead: Path) -> None:
        self.dead = dead

    def __call__(self, result: TrainResult) -> list[dict[str, object]]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        return [{**row, "node": node} for row in result.predictions]

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__dict__.update(state)
        save = Checkpoint.save

        def save_and_wait(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
            save(checkpoint, state)
            while not self.dead.exists():
                time.sleep(0.01)

        Checkpoint.save = save_and_wait  # type: ignore[method-assign]  # only on the node


def kill_worker_node(cluster: Any, folder: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Kill the node that is not the head as soon as both long trainings have finished an epoch.

    Returns the titles of the killed processes and the contents of both checkpoints.
    """
    checkpoints = [folder / f"{key}.checkpoint" for key in LONG]
    until(lambda: all(path.exists() for path in checkpoints), 300)
    kept = [torch.load(path)["state"] for path in checkpoints]
    (node,) = cluster.worker_nodes
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    processes = [raylet, *raylet.children(recursive=True)]
    titles = [" ".join(process.cmdline()) for process in processes]
    for process in processes:
        process.kill()
    return titles, kept


@pytest.mark.slow
def test_benchmark_trains_on_the_nodes_of_a_cluster(cluster, tmp_path):
    options = ["--profile", "smoke", "--only", "probe", "--only", "lora_r8", "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bankllm", "benchmark", "--ray", cluster.address, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "linear probe: accuracy on teller77[8 intents]" in done.stdout
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert {path.name for path in (folder / "adapters").iterdir()} >= {"probe", "lora_r8"}


@pytest.mark.slow
def test_a_task_of_a_killed_node_runs_again_on_another_node(cluster, tmp_path):
    data, folder, dead = three_intents(16, 4), tmp_path / "adapters", tmp_path / "dead"
    folder.mkdir()
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_worker_node, cluster, folder)
        killing.add_done_callback(lambda _: dead.touch())
        evaluate = HeldAfterAnEpoch(dead)
        outcomes = sweep(PLAN, data, folder, ray=cluster.address, evaluate=evaluate, progress=False)
        killed, kept = killing.result()
    assert any(title.startswith(TASK) for title in killed), killed
    assert [(outcome.key, outcome.config, outcome.measured) for outcome in outcomes] == [
        (key, config, True) for key, config in PLAN.items()
    ]
    # Both trainings were unfinished when the node died, and both finished on the head node.
    assert {row["node"] for outcome in outcomes for row in outcome.rows} == {cluster.head_node.node_id}
    for outcome, state in zip(outcomes[:2], kept, strict=True):
        assert state["epochs"] == 1
        # The task resumed from the checkpoint, and its costs include the time before the checkpoint.
        assert outcome.costs.encode_seconds == state["encode_seconds"]
    assert {path.name for path in folder.iterdir()} == set(PLAN)
    assert sweep(PLAN, data, folder, progress=False) == outcomes


def test_without_ray_the_error_names_the_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"needs Ray, which is not installed.*pip install 'bankllm\[cluster\]'"):
        sweep(PLAN, three_intents(4), tmp_path / "adapters", ray="127.0.0.1:1", progress=False)


def test_an_address_without_a_cluster_is_refused_before_the_run_starts(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'bankllm[cluster]'")
    options = ["--profile", "smoke", "--output", str(tmp_path), "--ray", "127.0.0.1:1"]
    with pytest.raises(UsageError, match=r"No Ray cluster responds at 127\.0\.0\.1:1 .*`ray start --head`"):
        CliRunner().invoke(app, ["benchmark", *options], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []
