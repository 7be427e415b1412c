"""Training the top layers alone on kept outputs of the frozen ones is the same training, only faster."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bankllm.datasets import Dataset, load
from bankllm.errors import UsageError
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training import cached_layers
from bankllm.training import train as training
from bankllm.training.config import TrainConfig
from bankllm.training.train import train
from tests.test_training_train import confidences, shortest, tiny_decoder


@pytest.fixture(scope="module")
def data() -> Dataset:
    whole = load("teller77").first_intents(3)
    return replace(whole, train=shortest(whole.train, 8), test=shortest(whole.test, 6))


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_replayed_and_computed_anew_end_alike(method, data, monkeypatch, tmp_path):
    config = TrainConfig(method=method, rank=2, epochs=1, batch_size=8, top_layers=2, head="linear")
    replayed = train(config, data, tmp_path / "adapter", progress=False)
    assert replayed.frozen is not None
    assert [len(hidden) for hidden in replayed.frozen.below or []] == [
        len(replayed.classifier.tokenizer(text)["input_ids"]) for text in data.train.texts
    ]
    again = IntentClassifier.load(tmp_path / "adapter").score(data.test.texts).probabilities
    np.testing.assert_allclose(again.max(axis=1), confidences(replayed), atol=1e-4)

    for module in (training, cached_layers):
        monkeypatch.setattr(module, "replays", lambda config: False)
    anew = train(config, data, progress=False)
    assert anew.frozen is not None
    assert anew.frozen.below is None
    assert confidences(anew) == pytest.approx(confidences(replayed), abs=1e-4)
    trained = 2 * 2 * 2 * (384 + 384) + 384 * 3 + 3
    assert anew.costs.trainable_parameters == replayed.costs.trainable_parameters == trained


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_kernel_head_sees_the_adapted_embeddings(method, data, tmp_path):
    config = TrainConfig(method=method, rank=2, epochs=2, batch_size=8, top_layers=2, lr_adapter=1e-2)
    result = train(config, data, tmp_path / "adapter", progress=False)
    assert result.frozen is not None
    vectors = IntentClassifier.load(tmp_path / "adapter").score(data.train.texts).embeddings
    landmarks = result.classifier.module.head.landmarks
    np.testing.assert_allclose(landmarks, vectors, atol=2e-3)
    assert np.abs(result.frozen.vectors - vectors).max() > 1e-2  # they moved


def test_evaluations_in_between_see_the_whole_model(data):
    still = {"lr_adapter": 1e-12, "lr_head": 1e-12, "head": "linear"}
    config = TrainConfig.model_validate({"rank": 2, "epochs": 1, "batch_size": 8, "top_layers": 1, **still})
    result = train(config, data, progress=False, curve=3)
    assert [row["examples"] for row in result.curve] == [0, 8, 16, 24]
    still = np.mean([row["actual"] == row["predicted"] for row in result.predictions])
    assert {row["accuracy"] for row in result.curve} == {still}
    seconds = [row["seconds"] for row in result.curve]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= result.costs.seconds


def test_a_decoder_keeps_its_lower_layers_too(data, tmp_path):
    base = tiny_decoder(tmp_path / "tiny-llama", data.train.texts, layers=3)
    config = TrainConfig(base_model=str(base), pooling="last", rank=2, epochs=1, top_layers=1, batch_size=8)
    result = train(config, data, progress=False)
    adapted = {name for name, _ in result.classifier.module.named_parameters() if "lora_" in name}
    assert adapted
    assert all(".layers.2." in name for name in adapted)


def test_one_more_layer_than_there_are_is_refused(data):
    with pytest.raises(UsageError, match="top_layers=7, but the model has 6 layers"):
        train(TrainConfig(top_layers=7), data, progress=False)


def test_embeddings_without_kept_layers_are_made_anew(data):
    probe = train(TrainConfig(method="probe"), data, progress=False)
    config = TrainConfig(rank=2, epochs=1, batch_size=8, top_layers=1)
    shared = train(config, data, progress=False, frozen=probe.frozen)
    assert shared.frozen is not probe.frozen
    assert shared.frozen is not None
    again = train(config, data, progress=False, frozen=shared.frozen)
    assert again.frozen is shared.frozen
    assert torch.equal((again.frozen.below or [])[0], (shared.frozen.below or [])[0])
    assert confidences(again) == pytest.approx(confidences(shared), abs=1e-6)
