"""The sweep as tasks of a real two-node Ray cluster on this machine, one of whose nodes is killed."""

import csv
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bankllm.datasets import load
from bankllm.errors import RunError, UsageError
from bankllm.training.checkpoints import STATE_FILE, Checkpoints, TrainingState
from bankllm.training.config import TrainConfig
from bankllm.training.ray_sweep import _result, sweep_on_ray
from bankllm.training.sweep import only_sweep, sweep
from bankllm.training.train import TrainResult

EPOCHS = 3
LONG = {
    "two": TrainConfig(rank=2, epochs=EPOCHS, batch_size=8),
    "three": TrainConfig(rank=2, epochs=EPOCHS, batch_size=8, seed=1),
}
PLAN = {**LONG, "one": TrainConfig(method="probe")}
STORE = 80 * 2**20  # bytes
TASK = "ray::_train_on_node"


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """Three intents, 16 training and 4 test texts of each, as files: nodes load the data themselves."""
    whole, folder = load("teller77").first_intents(3), tmp_path / "tiny"
    folder.mkdir()
    for name, split, count in (("train", whole.train, 16), ("test", whole.test, 4)):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "category"])
            for label in range(3):
                texts = [t for t, y in zip(split.texts, split.labels, strict=True) if y == label]
                writer.writerows([text, whole.label_names[label]] for text in texts[:count])
    return folder


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head and another node, of one core each, on loopback. Every process of theirs is gone afterwards."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 127.0.0.1 stays 127.0.0.1
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'bankllm[cluster]'")
    from ray.cluster_utils import Cluster

    before = set(psutil.Process().children(recursive=True))
    common = {
        "num_cpus": 1,
        "object_store_memory": STORE,
        "include_dashboard": False,
        "node_ip_address": "127.0.0.1",
    }
    # The head finds out within two seconds that a node is gone, not within fifteen.
    health = {"health_check_period_ms": 500, "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}
    cluster = Cluster(initialize_head=True, head_node_args={"_system_config": health, **common})
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the nodes cannot import tests
    try:
        cluster.add_node(**common)
        yield cluster
    finally:
        ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
        ray.shutdown()
        cluster.shutdown()
        left = set(psutil.Process().children(recursive=True)) - before
        for process in left:
            process.kill()
        assert psutil.wait_procs(left, timeout=10)[1] == []


class HeldAfterAnEpoch:
    """An `evaluate` that adds the node. Where it arrives, each training waits after an epoch for the node's death.

    However fast or slow the machine, both trainings are then in their middle when the node dies.
    """

    def __init__(self, dead: Path) -> None:
        self.dead = dead

    def __call__(self, result: TrainResult) -> list[dict[str, object]]:
        import ray

        node = ray.get_runtime_context().get_node_id()
        return [{**row, "node": node} for row in result.predictions]

    def __setstate__(self, state: dict[str, Path]) -> None:
        self.__dict__.update(state)
        mark = Checkpoints.mark

        def mark_and_wait(state: Path, so_far: TrainingState) -> None:
            mark(state, so_far)
            while not self.dead.exists():
                time.sleep(0.01)

        Checkpoints.mark = staticmethod(mark_and_wait)  # on the node alone


class NodeKiller(threading.Thread):
    """Waits until both long trainings have finished an epoch, then kills the node that is not the head."""

    def __init__(self, cluster: Any, folder: Path, dead: Path) -> None:
        super().__init__(daemon=True)
        (self.node,) = cluster.worker_nodes
        self.folder = folder
        self.dead = dead
        self.killed: list[str] = []
        self.kept: dict[str, TrainingState] = {}

    def run(self) -> None:
        try:
            give_up = time.monotonic() + 150
            states: dict[str, list[Path]] = {}
            while not (states and all(states.values())):
                if time.monotonic() > give_up:
                    return
                time.sleep(0.05)
                states = {key: list(self.folder.glob(f"{key}.checkpoint/*/{STATE_FILE}")) for key in LONG}
            self.kept = {key: TrainingState.model_validate_json(found[0].read_bytes()) for key, found in states.items()}
            raylet = psutil.Process(self.node.all_processes["raylet"][0].process.pid)
            processes = [raylet, *raylet.children(recursive=True)]
            titles = [" ".join(process.cmdline()) for process in processes]
            for process in processes:
                process.kill()
            self.killed = titles
        finally:
            self.dead.touch()


@pytest.mark.slow
def test_a_task_whose_node_is_killed_is_run_again_elsewhere(cluster, data_folder, tmp_path):
    folder, dead = tmp_path / "adapters", tmp_path / "dead"
    folder.mkdir()
    killer = NodeKiller(cluster, folder, dead)
    killer.start()
    evaluate = HeldAfterAnEpoch(dead)
    outcomes = sweep_on_ray(PLAN, str(data_folder), folder, address=cluster.address, evaluate=evaluate, progress=False)
    killer.join()
    assert any(title.startswith(TASK) for title in killer.killed), killer.killed
    assert [(outcome.key, outcome.config, outcome.measured) for outcome in outcomes] == [
        (key, config, True) for key, config in PLAN.items()
    ]
    # Both were in the middle of their training when the node died, and both ended on the head.
    assert {row["node"] for outcome in outcomes for row in outcome.rows} == {cluster.head_node.node_id}
    for outcome in outcomes[:2]:
        assert killer.kept[outcome.key].epochs == 1
        # The task carried on from the checkpoint and counts what that had cost.
        assert outcome.costs.encode_seconds == killer.kept[outcome.key].encode_seconds
    assert {path.name for path in folder.iterdir()} == set(PLAN)

    data = load(str(data_folder))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert sweep(PLAN, data, folder, progress=False) == outcomes
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_went_wrong_on_a_node_is_said_as_if_it_went_wrong_here():
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'bankllm[cluster]'")
    errors = ray.exceptions

    def fail_with(error: Exception) -> Any:
        return SimpleNamespace(get=lambda reference: (_ for _ in ()).throw(error), exceptions=errors)

    wrong = errors.RayTaskError("task", "traceback", UsageError("no linear layer named q_proj"))
    with pytest.raises(UsageError, match="no linear layer named q_proj"):
        _result(fail_with(wrong.as_instanceof_cause()), None, "two", 3)
    with pytest.raises(
        RunError, match=r"The task of two was lost 4 times \(WorkerCrashedError\).*call again to carry on"
    ):
        _result(fail_with(errors.WorkerCrashedError()), None, "two", 3)
    with pytest.raises(ZeroDivisionError):  # a fault of ours keeps its traceback
        _result(
            fail_with(errors.RayTaskError("task", "traceback", ZeroDivisionError()).as_instanceof_cause()),
            None,
            "two",
            3,
        )


def test_without_ray_the_error_names_the_command(data_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"needs Ray, which is not installed.*pip install 'bankllm\[cluster\]'"):
        sweep_on_ray(PLAN, str(data_folder), tmp_path / "adapters", progress=False)


def test_bad_input_is_refused_before_ray_starts(data_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="cannot name a folder"):
        sweep_on_ray({"a/b": TrainConfig()}, str(data_folder), tmp_path, progress=False)
    monkeypatch.setattr("bankllm.training.sweep.TIMEOUT_S", 0.1)
    with only_sweep(tmp_path), pytest.raises(RunError, match="Another process is sweeping into"):
        sweep_on_ray(PLAN, str(data_folder), tmp_path, progress=False)
