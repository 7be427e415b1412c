"""Training with cached prefix states gives the same result as running the frozen layers in every epoch."""

import numpy as np
import pytest

from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training.cached_layers import embed_frozen
from bankllm.training.config import TrainConfig
from bankllm.training.train import train
from tests.support.small_training import confidences


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_training_with_and_without_cached_prefix_gives_the_same_result(method, data, monkeypatch, tmp_path):
    config = TrainConfig(method=method, rank=2, epochs=1, batch_size=8, top_layers=2, head="linear")
    cached = train(config, data, tmp_path / "adapter", progress=False)
    _, prefix_states = embed_frozen(cached.classifier, data.train.texts, progress=False, first_trained=4)
    tokens = cached.classifier.tokenizer(list(data.train.texts))["input_ids"]
    assert [hidden.shape for hidden in prefix_states] == [(len(ids), 384) for ids in tokens]
    again = IntentClassifier.load(tmp_path / "adapter").score(data.test.texts).probabilities
    np.testing.assert_allclose(again.max(axis=1), confidences(cached), atol=1e-4)

    monkeypatch.setattr("bankllm.training.cached_layers.first_trained_layer", lambda body: 0)
    uncached = train(config, data, progress=False)
    assert confidences(uncached) == pytest.approx(confidences(cached), abs=1e-4)
    trained = 2 * 2 * 2 * (384 + 384) + 384 * 3 + 3
    assert uncached.costs.trainable_parameters == cached.costs.trainable_parameters == trained


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_kernel_head_is_fitted_on_the_adapted_embeddings(method, data, tmp_path):
    config = TrainConfig(method=method, rank=2, epochs=2, batch_size=8, top_layers=2, lr_adapter=1e-2)
    result = train(config, data, tmp_path / "adapter", progress=False)
    frozen, _ = embed_frozen(result.classifier, data.train.texts, progress=False, first_trained=0)
    vectors = IntentClassifier.load(tmp_path / "adapter").score(data.train.texts).embeddings
    landmarks = result.classifier.module.head.landmarks
    np.testing.assert_allclose(landmarks, vectors, atol=2e-3)
    assert np.abs(frozen - vectors).max() > 1e-2  # the training changed the embeddings


def test_evaluations_during_the_training_use_the_full_body(data):
    tiny_rates = {"lr_adapter": 1e-12, "lr_head": 1e-12, "head": "linear"}
    config = TrainConfig.model_validate({"rank": 2, "epochs": 1, "batch_size": 8, "top_layers": 1, **tiny_rates})
    result = train(config, data, progress=False, curve=3)
    assert [row["examples"] for row in result.curve] == [0, 8, 16, 24]
    accuracy = np.mean([row["actual"] == row["predicted"] for row in result.predictions])
    assert {row["accuracy"] for row in result.curve} == {accuracy}
    seconds = [row["seconds"] for row in result.curve]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= result.costs.seconds
