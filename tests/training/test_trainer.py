"""The gradient steps: which time counts, which batches they use, and that a divergence is reported."""

from types import SimpleNamespace

import pytest
import torch

from bankllm.errors import ModelError
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training import trainer
from bankllm.training.checkpoint import Checkpoint
from bankllm.training.config import TrainConfig
from bankllm.training.train import train

CONFIG = TrainConfig(rank=2, epochs=2, batch_size=8, top_layers=1, head="linear", head_init="random")


def test_saving_and_evaluating_do_not_count_as_optimisation(data, monkeypatch, tmp_path):
    """The test's clock advances by 1 s in each step, and by 100 s in each save and evaluation."""
    now = [0.0]

    def lasting(seconds, function):
        def slow(*arguments, **options):
            now[0] += seconds
            return function(*arguments, **options)

        return slow

    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(trainer, "clip_grad_norm_", lasting(1, trainer.clip_grad_norm_))
    monkeypatch.setattr(Checkpoint, "save", lasting(100, Checkpoint.save))
    monkeypatch.setattr(IntentClassifier, "score", lasting(100, IntentClassifier.score))
    result = train(CONFIG, data, progress=False, checkpoint=tmp_path / "checkpoint", curve=1)
    assert result.costs.seconds == 6  # two epochs with three batches of 8 texts
    assert [row["seconds"] for row in result.curve] == [0, 3, 6]
    assert now[0] > 500


def test_batches_hold_texts_of_similar_lengths_in_random_order():
    torch.manual_seed(0)
    lengths = torch.randint(5, 60, (1003,)).tolist()
    first, second = (trainer.length_grouped_batches(lengths, 8) for _ in range(2))
    for batches in (first, second):
        assert sorted(row for batch in batches for row in batch) == list(range(1003))
        assert [len(batch) for batch in batches] == [8] * 125 + [3]
        tokens = [[lengths[row] for row in batch] for batch in batches]
        padding = sum(max(batch) * len(batch) - sum(batch) for batch in tokens)
        assert padding < 0.05 * sum(lengths)  # random batches: about 0.7
        longest = [max(batch) for batch in tokens]
        assert longest not in (sorted(longest), sorted(longest, reverse=True))
    assert first != second


def test_a_diverged_training_is_an_error(data):
    with pytest.raises(ModelError, match=r"The training diverged: .*Lower lr_head and lr_adapter"):
        train(CONFIG.model_copy(update={"lr_head": float("inf")}), data, progress=False)
