"""An interrupted training resumes from its last epoch and ends with the same result as an uninterrupted one."""

import json
from pathlib import Path

import pytest

from bankllm.datasets import Dataset
from bankllm.errors import RunError, UsageError
from bankllm.training.checkpoints import STATE_FILE, Checkpoints, TrainingState
from bankllm.training.config import TrainConfig
from bankllm.training.train import TrainResult, train
from tests.support.small_training import confidences

CONFIG = TrainConfig(rank=2, epochs=2, batch_size=8, top_layers=1)


class Stopped(Exception):
    """Raised by a test instead of a SIGKILL. `test_training_sweep` sends a real SIGKILL."""


@pytest.fixture(scope="module")
def undisturbed(data: Dataset) -> TrainResult:
    return train(CONFIG, data, progress=False)


def stop_after_the_first_epoch(monkeypatch: pytest.MonkeyPatch, *, complete: bool) -> None:
    mark = Checkpoints.mark

    def stop(folder: Path, state: TrainingState) -> None:
        if complete:
            mark(folder, state)
        raise Stopped

    monkeypatch.setattr(Checkpoints, "mark", staticmethod(stop))


@pytest.mark.parametrize(("complete", "epochs_kept"), [(True, 1), (False, 0)])
def test_a_training_resumes_from_the_last_complete_state(complete, epochs_kept, data, undisturbed, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        stop_after_the_first_epoch(patch, complete=complete)
        with pytest.raises(Stopped):
            train(CONFIG, data, progress=False, checkpoints=tmp_path)
    states = [json.loads(path.read_text()) for path in tmp_path.glob(f"*/{STATE_FILE}")]
    assert [state["epochs"] for state in states] == [1] * epochs_kept

    resumed = train(CONFIG, data, progress=False, checkpoints=tmp_path)
    assert confidences(resumed) == pytest.approx(confidences(undisturbed), abs=1e-5)
    if complete:
        assert resumed.costs.seconds > states[0]["seconds"] > 0
        assert resumed.costs.peak_memory_bytes >= states[0]["peak_memory_bytes"]


def test_a_finished_training_runs_no_epoch_again(data, undisturbed, tmp_path):
    first = train(CONFIG, data, progress=False, checkpoints=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        stop_after_the_first_epoch(patch, complete=False)  # would fail if an epoch ran
        again = train(CONFIG, data, progress=False, checkpoints=tmp_path)
    assert confidences(again) == pytest.approx(confidences(first), abs=1e-6)
    assert confidences(first) == pytest.approx(confidences(undisturbed), abs=1e-5)


def test_the_checkpoint_holds_only_the_trainable_weights(data, tmp_path):
    train(CONFIG, data, progress=False, checkpoints=tmp_path)
    sizes = {path.name: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    assert sizes["trained.safetensors"] < 100_000  # the body has 90 MB
    assert sum(sizes.values()) < 2**20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 4}, "rank: checkpoint 2, this training 4"),
        ({"lr_head": 0.5}, r"lr_head: checkpoint 0\.\d+, this training 0\.5"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(change, message, data, tmp_path):
    train(CONFIG, data, progress=False, checkpoints=tmp_path)
    with pytest.raises(UsageError, match=rf"belongs to another training \({message}\).*delete the folder"):
        train(CONFIG.model_copy(update=change), data, progress=False, checkpoints=tmp_path)


def test_a_checkpoint_of_other_data_is_refused(data, tmp_path):
    train(CONFIG, data, progress=False, checkpoints=tmp_path)
    with pytest.raises(UsageError, match=r"another training \(dataset: checkpoint 'teller77\[3 intents\]', this"):
        train(CONFIG, data.select(data.label_names[:2], "two"), progress=False, checkpoints=tmp_path)


def test_a_training_killed_while_it_wrote_the_fingerprint_can_start_again(tmp_path):
    (tmp_path / ".made_from.json.ab12cd_9").write_text('{"rank": ')
    assert Checkpoints(tmp_path, {"rank": 8}).latest() is None
    assert [path.name for path in tmp_path.iterdir()] == ["made_from.json"]


def test_a_folder_with_other_files_is_refused_and_not_changed(data, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="contains files that are not a checkpoint"):
        train(CONFIG, data, progress=False, checkpoints=tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_error_for_a_damaged_checkpoint_names_the_file(data, tmp_path):
    (tmp_path / "made_from.json").write_text('{"rank": ')
    with pytest.raises(RunError, match=r"made_from.json is damaged"):
        train(CONFIG, data, progress=False, checkpoints=tmp_path)
