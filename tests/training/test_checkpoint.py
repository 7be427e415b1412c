"""An interrupted training resumes after its last epoch and ends with the same result as an uninterrupted one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bankllm.datasets import Dataset
from bankllm.errors import RunError, UsageError
from bankllm.training.checkpoint import Checkpoint
from bankllm.training.config import TrainConfig
from bankllm.training.train import TrainResult, train
from tests.support.small_training import confidences

CONFIG = TrainConfig(rank=2, epochs=2, batch_size=8, top_layers=1, dropout=0.1)


class Stopped(Exception):
    """Raised by a test instead of a SIGKILL. `test_sweep` sends a real SIGKILL."""


@pytest.fixture(scope="module")
def undisturbed(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainResult, Path]:
    """An uninterrupted training and its checkpoint."""
    path = tmp_path_factory.mktemp("undisturbed") / "lora.checkpoint"
    return train(CONFIG, data, progress=False, checkpoint=path), path


@pytest.mark.parametrize("saved_first", [True, False])
def test_a_training_resumes_after_the_last_saved_epoch(saved_first, data, undisturbed, tmp_path, monkeypatch):
    path, save = tmp_path / "checkpoint", Checkpoint.save

    def stop(self: Checkpoint, state: dict[str, Any]) -> None:
        if saved_first:
            save(self, state)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", stop)
        with pytest.raises(Stopped):
            train(CONFIG, data, progress=False, checkpoint=path)
    kept = torch.load(path)["state"] if saved_first else None
    assert [file.name for file in tmp_path.iterdir()] == (["checkpoint"] if saved_first else [])

    resumed = train(CONFIG, data, progress=False, checkpoint=path)
    assert confidences(resumed) == pytest.approx(confidences(undisturbed[0]), abs=1e-5)
    if kept:
        assert kept["epochs"] == 1
        assert resumed.costs.seconds > kept["seconds"] > 0
        assert resumed.costs.encode_seconds == kept["encode_seconds"]
        assert resumed.costs.peak_memory_bytes >= kept["peak_memory_bytes"]


def test_a_training_goes_on_if_a_checkpoint_cannot_be_written(data, undisturbed, tmp_path, monkeypatch, caplog):
    def full_disk(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bankllm.util.atomic_files.os.fsync", full_disk)
    result = train(CONFIG, data, progress=False, checkpoint=tmp_path / "checkpoint")
    assert confidences(result) == pytest.approx(confidences(undisturbed[0]), abs=1e-5)
    assert "goes on without a checkpoint of epoch 2: " in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_finished_training_runs_no_epoch_again(data, undisturbed, monkeypatch):
    first, path = undisturbed
    monkeypatch.setattr(Checkpoint, "save", None)  # would fail if an epoch ran
    again = train(CONFIG, data, progress=False, checkpoint=path)
    assert confidences(again) == pytest.approx(confidences(first), abs=1e-6)


def test_the_checkpoint_holds_only_the_trainable_weights(undisturbed):
    assert undisturbed[1].stat().st_size < 2**18  # the body has 90 MB


def test_a_checkpoint_of_another_configuration_or_other_data_is_refused(data, undisturbed):
    message = r"belongs to another training \(rank: stored 2, requested 4\).*delete it to train again"
    with pytest.raises(UsageError, match=message):
        train(CONFIG.model_copy(update={"rank": 4}), data, progress=False, checkpoint=undisturbed[1])
    with pytest.raises(UsageError, match=r"another training \(dataset: stored 'teller77\[3 intents\]', requested"):
        train(CONFIG, data.select(data.label_names[:2], "two"), progress=False, checkpoint=undisturbed[1])


@pytest.mark.parametrize("cut", [None, 1000])
def test_another_file_and_a_damaged_checkpoint_are_refused_and_not_changed(cut, data, undisturbed, tmp_path):
    content = undisturbed[1].read_bytes()[:cut] if cut else b"years of work"
    (tmp_path / "thesis.tex").write_bytes(content)
    with pytest.raises(RunError, match=r"thesis\.tex is not a checkpoint of a training, or it is damaged"):
        train(CONFIG, data, progress=False, checkpoint=tmp_path / "thesis.tex")
    assert (tmp_path / "thesis.tex").read_bytes() == content
