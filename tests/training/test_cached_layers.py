"""Training with cached prefix states gives the same result as running the frozen layers in every epoch."""

import numpy as np
import pytest

from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training.cached_layers import FrozenCache, embed_frozen
from bankllm.training.config import TrainConfig
from bankllm.training.train import train
from tests.support.small_training import confidences

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_training_with_and_without_cached_prefix_gives_the_same_result(method, data, monkeypatch, tmp_path):
    config = TrainConfig(method=method, rank=2, epochs=1, batch_size=8, top_layers=2, head="linear")
    cached = train(config, data, tmp_path / "adapter", progress=False)
    prefix_states = embed_frozen(cached.classifier, data.train.texts, False, 4, {}).prefix_states
    tokens = cached.classifier.tokenizer(list(data.train.texts))["input_ids"]
    assert [hidden.shape for hidden in prefix_states] == [(len(ids), 384) for ids in tokens]
    again = IntentClassifier.load(tmp_path / "adapter").score(data.test.texts).probabilities
    np.testing.assert_allclose(again.max(axis=1), confidences(cached), atol=1e-4)

    monkeypatch.setattr("bankllm.training.cached_layers.first_trained_layer", lambda body: 0)
    uncached = train(config, data, progress=False)
    assert confidences(uncached) == pytest.approx(confidences(cached), abs=5e-4)
    trained = 2 * 2 * 2 * (384 + 384) + 384 * 3 + 3
    assert uncached.costs.trainable_parameters == cached.costs.trainable_parameters == trained


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_kernel_head_is_fitted_on_the_adapted_embeddings(method, data, tmp_path):
    config = TrainConfig(method=method, rank=2, epochs=2, batch_size=8, top_layers=2, lr_adapter=1e-2)
    result = train(config, data, tmp_path / "adapter", progress=False)
    frozen = embed_frozen(result.classifier, data.train.texts, False, 0, {}).vectors
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


def test_trainings_share_the_embeddings_of_the_frozen_base_model(data):
    cache: FrozenCache = {}
    lora = TrainConfig(rank=2, epochs=1, batch_size=8, top_layers=1)
    train(TrainConfig(method="probe"), data, progress=False, frozen=cache)
    (without_states,) = cache.values()
    first = train(lora, data, progress=False, frozen=cache)
    (shared,) = cache.values()
    assert shared is not without_states  # the probe captured no prefix states
    again = train(lora, data, progress=False, frozen=cache)
    assert list(cache.values()) == [shared]
    assert again.costs.encode_seconds == first.costs.encode_seconds == shared.seconds
    assert confidences(again) == pytest.approx(confidences(first), abs=1e-6)
    # The shared embeddings were in memory before, so they are added to the measured peak.
    assert again.costs.peak_memory_bytes > shared.nbytes > shared.vectors.nbytes == 24 * 384 * 4
    train(TrainConfig(method="probe", max_length=32), data, progress=False, frozen=cache)
    assert len(cache) == 2  # other inputs, other embeddings
