"""Fine-tune a tiny language model, interrupt it, and write its artifact."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bankllm.datasets.tellerchat import Understand, Word
from bankllm.errors import DataError, ModelError, RunError, UsageError
from bankllm.evidence.records import read_records
from bankllm.evidence.verification.verify import verify
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model import fine_tune as module
from bankllm.training.language_model.fine_tune import FineTuned, fine_tune


@pytest.fixture
def config(tiny_base: Path) -> LanguageModelConfig:
    return LanguageModelConfig(base_model=str(tiny_base), rank=2, epochs=4, batch_size=2)


def _weights(tuned: FineTuned) -> dict[str, torch.Tensor]:
    return {name: weights for name, weights in tuned.model.named_parameters() if weights.requires_grad}


def test_the_loss_falls_and_the_artifact_verifies(config, examples, tmp_path) -> None:
    output = tmp_path / "adapter"
    settings = config.model_copy(update={"epochs": 8, "learning_rate": 1e-2})
    tuned = fine_tune(settings, examples, output, validation=examples[:3], evaluations=2, progress=False)
    losses = [row["validation_loss"] for row in tuned.curve if row["validation_loss"] != ""]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert tuned.costs["tokens"] > tuned.costs["computed_tokens"] > 0
    assert {path.name for path in output.iterdir()} == {
        *("README.md", "adapter_config.json", "adapter_model.safetensors", "raw", "records.jsonl", "training.json")
    }
    assert {tensor.dtype for tensor in load_file(output / "adapter_model.safetensors").values()} == {torch.float16}
    assert str(tmp_path.parent) not in "".join(path.read_text() for path in output.glob("*.json*"))
    assert json.loads((output / "training.json").read_text())["model_sha256"]
    assert all(record.status == "measured" for record in read_records(output))
    verdict = verify(output)
    assert verdict.holds, verdict.summary()


def test_an_interrupted_training_resumes_and_ends_with_the_same_weights(config, examples, tmp_path, monkeypatch):
    undisturbed = fine_tune(config, examples, progress=False)
    monkeypatch.setattr(module, "SAVE_STEPS", 2)
    mark, folder = module.Checkpoints.mark, tmp_path / "checkpoint"

    def killed(self, checkpoint: Path, state) -> None:
        if checkpoint.name == "checkpoint-6":
            raise KeyboardInterrupt
        mark(self, checkpoint, state)

    with monkeypatch.context() as patch:
        patch.setattr(module.Checkpoints, "mark", killed)
        with pytest.raises(KeyboardInterrupt):
            fine_tune(config, examples, progress=False, checkpoint=folder)
    assert (folder / "checkpoint-6").exists()  # complete or not, it has no mark
    resumed = fine_tune(config, examples, progress=False, checkpoint=folder)
    for name, weights in _weights(undisturbed).items():
        assert torch.allclose(weights, _weights(resumed)[name], atol=1e-6), name
    assert resumed.costs["tokens"] == undisturbed.costs["tokens"]

    with pytest.raises(UsageError, match=r"another training \(rank: stored 2, requested 3\)"):
        fine_tune(config.model_copy(update={"rank": 3}), examples, progress=False, checkpoint=folder)


def test_a_training_continues_an_adapter_and_says_so(config, examples, tmp_path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    fine_tune(config, examples, first, progress=False)
    more = config.model_copy(update={"start": first, "max_steps": 1, "learning_rate": 1e-9})
    fine_tune(more, examples[:2], second, progress=False)
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (first, second))
    assert all(torch.allclose(before[name].float(), after[name].float(), atol=1e-4) for name in before)
    start = json.loads((second / "training.json").read_text())["start"]
    assert (start["train_rows"], start["config"]["epochs"]) == (len(examples), 4)
    assert start["weights_sha256"] in (second / "README.md").read_text()
    assert str(first) not in (second / "training.json").read_text()

    with pytest.raises(UsageError, match=r"has rank 2, got rank 3\. Use --rank 2"):
        fine_tune(more.model_copy(update={"rank": 3}), examples, progress=False)
    with pytest.raises(ModelError, match="cannot be continued"):
        fine_tune(more.model_copy(update={"start": tmp_path}), examples, progress=False)


def test_the_result_may_be_the_mean_of_the_weights_before_and_after(config, examples, tmp_path) -> None:
    first, ended, mean = (tmp_path / name for name in ("first", "ended", "mean"))
    fine_tune(config.model_copy(update={"max_steps": 1}), examples, first, progress=False)
    more = config.model_copy(update={"start": first, "max_steps": 2, "learning_rate": 0.05})
    fine_tune(more, examples, ended, progress=False)
    fine_tune(more.model_copy(update={"average": True}), examples, mean, progress=False)
    before, after, got = (load_file(folder / "adapter_model.safetensors") for folder in (first, ended, mean))
    for name, weights in got.items():
        assert torch.allclose(weights.float(), (before[name].float() + after[name].float()) / 2, atol=1e-3), name
    assert any(not torch.allclose(got[name].float(), after[name].float(), atol=1e-2) for name in got)
    assert "the mean of those before and after" in (mean / "README.md").read_text()

    with pytest.raises(UsageError, match="average=true needs the adapter to average with"):
        LanguageModelConfig(average=True)


def test_a_checkpoint_folder_with_other_files_is_refused(config, examples, tmp_path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"notes\.txt, which is no checkpoint"):
        fine_tune(config, examples, progress=False, checkpoint=tmp_path)


def test_examples_above_the_maximum_are_left_out_and_named(config, examples) -> None:
    long = Understand(messages=("x" * 400,), calls=())
    short = config.model_copy(update={"max_steps": 1, "max_length": 300})
    tuned = fine_tune(short, [examples[0], long, *examples[1:]], progress=False)
    assert tuned.too_long == [1]
    assert tuned.costs["too_long"] == 1
    with pytest.raises(DataError, match="no example of at most 300 tokens"):
        fine_tune(short, [long], progress=False)


def test_a_full_disk_is_explained(config, examples, tmp_path, monkeypatch) -> None:
    def full(*args, **kwargs) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RunError, match=r"No space left on device.*resumes"):
        fine_tune(config, examples, progress=False, checkpoint=tmp_path / "checkpoint")


def test_an_invalid_setting_is_named() -> None:
    with pytest.raises(UsageError, match=r"rank: .*; steps: there is no such field"):
        LanguageModelConfig.model_validate({"rank": 0, "steps": 3})


@pytest.mark.slow
def test_qlora_trains(config, examples) -> None:
    tuned = fine_tune(config.model_copy(update={"method": "qlora", "max_steps": 2}), examples, progress=False)
    assert all(torch.isfinite(weights).all() for weights in _weights(tuned).values())


def test_word_examples_alone_train(config, examples) -> None:
    words = [example for example in examples if isinstance(example, Word)]
    assert fine_tune(config.model_copy(update={"max_steps": 1}), words, progress=False).costs["examples"] == 1
