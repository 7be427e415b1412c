"""A sweep that is killed with SIGKILL, and the second call that resumes it."""

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import bankllm.training.sweep as sweep_module
import bankllm.training.sweep_result as sweep_result
from bankllm.datasets import Dataset, Split
from bankllm.errors import NotMeasured, RunError, UsageError
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.profiles import PROFILES, Profile, TrainingRun
from bankllm.training.config import TrainConfig
from bankllm.training.sweep import PlannedTraining, plan, sweep
from bankllm.training.sweep_result import SweepResult
from tests.support import ROOT
from tests.support.server_client import until
from tests.support.small_training import three_intents

PLAN = {
    "one": TrainConfig(method="probe"),
    "two": TrainConfig(rank=2, epochs=3),
    "three": TrainConfig(rank=2, epochs=1, seed=1),
}

SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from tests.training.test_sweep import PLAN, tiny
from bankllm.training.sweep import sweep

def wait():
    Path("waiting").touch()
    time.sleep(120)

def evaluate(result):
    if result.config == PLAN["two"] and {moment!r} == "before the rows of two":
        wait()
    return result.predictions

def report(outcome):
    if outcome.key == "one" and {moment!r} == "between one and two":
        wait()

sweep(PLAN, tiny(), Path("adapters"), evaluate=evaluate, report=report, progress=False)
"""


def tiny() -> Dataset:
    """An epoch takes a fraction of a second."""
    return three_intents(8, 4)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    sweep(PLAN, tiny(), folder, progress=False)
    return folder


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Record the configuration of each training during the test."""
    calls, original = [], sweep_result.train

    def train(config: TrainConfig, *arguments: Any, **more: Any):
        calls.append(config)
        return original(config, *arguments, **more)

    monkeypatch.setattr(sweep_result, "train", train)
    return calls


def kill_at(moment: str, folder: Path, reached: str) -> None:
    """Start the sweep in a separate process, and SIGKILL it as soon as a path matches `reached`."""
    script = SCRIPT.format(tests=str(ROOT), moment=moment)
    process = subprocess.Popen([sys.executable, "-c", script], cwd=folder)
    try:
        until(lambda: any(folder.glob(reached)) or process.poll() is not None)
        assert process.poll() is None, "the sweep ended by itself"
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): (p.stat().st_ino, p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def same_answers(ours: SweepResult, theirs: SweepResult) -> bool:
    """Compare rows. Confidences may differ slightly, because the last digits of a float differ between processes."""
    confidences = [[float(row["confidence"]) for row in outcome.rows] for outcome in (ours, theirs)]
    answers = [[row | {"confidence": ""} for row in outcome.rows] for outcome in (ours, theirs)]
    return answers[0] == answers[1] and confidences[0] == pytest.approx(confidences[1], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "reached"),
    [
        ("in the second epoch of two", "adapters/two.checkpoint"),
        ("between one and two", "waiting"),
        ("before the rows of two", "waiting"),
    ],
)
def test_a_killed_sweep_resumes(moment, reached, tmp_path, uninterrupted, trained):
    kill_at(moment, tmp_path, reached)
    folder = tmp_path / "adapters"
    before = snapshot(folder / "one")
    assert (folder / "one" / "rows.csv").is_file()
    assert not (folder / "two").exists()
    kept = [torch.load(path)["state"] for path in folder.glob("two.checkpoint")]
    assert bool(kept) == (moment != "between one and two")

    outcomes = sweep(PLAN, tiny(), folder, progress=False)

    assert snapshot(folder / "one") == before
    assert trained == [PLAN["two"], PLAN["three"]]
    if kept:
        assert {state["epochs"] for state in kept} <= {1, 2, 3}
        assert outcomes[1].costs.encode_seconds == kept[0]["encode_seconds"]
        assert outcomes[1].costs.seconds > kept[0]["seconds"]
    assert [(o.key, o.config, o.measured) for o in outcomes] == [(key, config, True) for key, config in PLAN.items()]
    assert files_below(folder) == files_below(uninterrupted)
    expected = sweep(PLAN, tiny(), uninterrupted, progress=False)
    assert all(same_answers(ours, theirs) for ours, theirs in zip(outcomes, expected, strict=True))
    assert not same_answers(outcomes[1], outcomes[2])


@pytest.mark.slow
def test_a_finished_sweep_trains_nothing_and_each_result_is_complete_and_states_its_costs(uninterrupted, trained):
    data, before, reported = tiny(), snapshot(uninterrupted), list[SweepResult]()
    assert {path.name for path in uninterrupted.iterdir()} == set(PLAN)
    again = sweep(PLAN, data, uninterrupted, report=reported.append, progress=False)
    assert reported == again
    assert trained == []
    assert snapshot(uninterrupted) == before
    for outcome in again:
        assert outcome.folder == uninterrupted / outcome.key
        intents = [prediction.intent for prediction in IntentClassifier.load(outcome.folder).predict(data.test.texts)]
        assert [row["predicted"] for row in outcome.rows] == intents
        costs = outcome.costs
        assert costs.rows_seen == len(data.train) * (1 if outcome.key == "one" else outcome.config.epochs)
        assert min(costs.seconds, costs.encode_seconds, costs.adapter_bytes) > 0
        assert (costs.trainable_parameters > 0) == (outcome.config.method == "lora")  # a kernel head is only solved
        assert costs.total_seconds == costs.encode_seconds + costs.seconds


@pytest.mark.slow
def test_another_configuration_or_other_data_under_the_same_key_is_refused(uninterrupted, trained):
    before = snapshot(uninterrupted)
    with pytest.raises(UsageError, match=r"two belongs to another training \(rank: stored 2, requested 4\)\."):
        sweep({**PLAN, "two": TrainConfig(rank=4, epochs=3)}, tiny(), uninterrupted, progress=False)
    data = tiny()
    swapped = Split(data.test.texts[::-1], data.test.labels[::-1])
    with pytest.raises(UsageError, match=r"one belongs to another training \(rows_sha256: stored '"):
        sweep(PLAN, dataclasses.replace(data, test=swapped), uninterrupted, progress=False)
    assert trained == []
    assert snapshot(uninterrupted) == before


@pytest.mark.slow
def test_a_training_that_cannot_run_states_the_reason_and_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    both = {"qlora": TrainConfig(method="qlora", rank=2, epochs=1), "probe": TrainConfig(method="probe")}
    missing, probe = sweep(both, tiny(), tmp_path, progress=False)
    assert (missing.measured, probe.measured) == (False, True)
    assert "pip install 'bankllm[train]'" in str(missing.reason)
    assert missing.rows == []
    with pytest.raises(NotMeasured, match=r"qlora was not measured: .*needs bitsandbytes"):
        missing.costs  # noqa: B018
    assert {path.name for path in tmp_path.iterdir()} == {"probe"}

    monkeypatch.undo()
    monkeypatch.setenv("BANKLLM_OFFLINE", "1")
    now, still = sweep(both, tiny(), tmp_path, progress=False)
    assert now.measured
    assert (tmp_path / "qlora" / "adapter_model.safetensors").is_file()
    assert still == probe


def test_only_the_leftovers_of_a_killed_training_are_deleted(tmp_path):
    for name in (".probe-ab12cd_9", ".other-ab12cd_9", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "head.safetensors").touch()
    for name in (".probe.checkpoint.ab12cd_9", ".other.checkpoint.ab12cd_9"):
        (tmp_path / name).touch()
    sweep({"probe": TrainConfig(method="probe")}, tiny(), tmp_path, progress=False)
    others = {".other-ab12cd_9", ".other.checkpoint.ab12cd_9", "mine"}
    assert {path.name for path in tmp_path.iterdir()} == {"probe", *others}


def test_two_sweeps_cannot_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_module, "TIMEOUT_S", 0.3)
    with sweep_module.lock_folder(tmp_path), pytest.raises(RunError, match="Another process is running a sweep in"):
        sweep(PLAN, tiny(), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["", "a/b", ".hidden", "lora.checkpoint", "LoRA r=8", "größe"])
def test_a_key_must_be_a_valid_folder_name(key, tmp_path):
    with pytest.raises(UsageError, match="cannot be used as a folder name"):
        sweep({key: TrainConfig()}, tiny(), tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_a_profile_becomes_a_plan():
    made = plan(PROFILES["full"])
    for other in PROFILES.values():
        assert len(plan(other)) == sum(len(entry.seeds) for entry in other.training)  # no key is used twice
    labels = [planned.label for planned in made.values()]
    assert labels[:3] == ["LoRA r=4 seed 0", "LoRA r=4 seed 1", "LoRA r=4 seed 2"]
    assert len(labels) == len(set(labels)) == 2 + 3 * 8 + 2
    assert list(plan(PROFILES["full"], only=["probe", "qlora_r8"])) == [*(f"qlora_r8_s{n}" for n in range(3)), "probe"]
    assert list(plan(PROFILES["full"], only=["probe", "language_lora_r16"])) == ["probe"]
    with pytest.raises(
        UsageError, match=r"full has no configuration lora_r9. Choose from: lora_r4, .*probe.*language_qlora_r8"
    ):
        plan(PROFILES["full"], only=["probe", "lora_r9"])
    config = TrainConfig(method="qlora", rank=16, epochs=2, seed=2)
    assert made["qlora_r16_s2"] == PlannedTraining("QLoRA r=16", "qlora_r16", "QLoRA r=16 seed 2", config)
    best = TrainingRun(method="lora", rank=16, name="LoRA r=16, all linear", options={"target_modules": "all-linear"})
    profile: Profile = PROFILES["smoke"].model_copy(update={"training": (best,)})
    expected = TrainConfig(rank=16, epochs=1, target_modules="all-linear")
    name, id = "LoRA r=16, all linear", "lora_r_16_all_linear"
    assert plan(profile) == {id: PlannedTraining(name, id, name, expected)}
    wrong = best.model_copy(update={"options": {"learning_rate": 1}})
    with pytest.raises(UsageError, match="learning_rate: there is no such field"):
        plan(profile.model_copy(update={"training": (wrong,)}))
