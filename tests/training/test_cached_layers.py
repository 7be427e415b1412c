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
    again = IntentClassifier.load(tmp_path / "adapter").score(data.test.texts).probabilities
    np.testing.assert_allclose(again.max(axis=1), confidences(cached), atol=1e-4)

    monkeypatch.setattr("bankllm.training.cached_layers.prefix_layers", lambda body: 0)
    uncached = train(config, data, progress=False)
    assert confidences(uncached) == pytest.approx(confidences(cached), abs=5e-4)
    trained = 2 * 2 * 2 * (384 + 384) + 384 * 3 + 3
    assert uncached.costs.trainable_parameters == cached.costs.trainable_parameters == trained


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_kernel_head_is_fitted_on_the_adapted_embeddings(method, data, tmp_path):
    config = TrainConfig(method=method, rank=2, epochs=2, batch_size=8, top_layers=2, lr_adapter=1e-2)
    result = train(config, data, tmp_path / "adapter", progress=False)
    frozen = embed_frozen(result.classifier, data.train, False, 0, FrozenCache()).vectors
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


def test_trainings_share_what_the_frozen_base_model_computes(data):
    cache = FrozenCache()
    lora = TrainConfig(rank=2, epochs=1, batch_size=8, top_layers=1)
    train(TrainConfig(method="probe"), data, progress=False, frozen=cache)
    assert cache.states == {}  # only a training of the body needs the states
    first = train(lora, data, progress=False, frozen=cache)
    (states,), (_, shared) = cache.states.values(), cache.embeddings.values()
    texts = (*data.train.texts, *data.test.texts)
    tokens = {tuple(ids) for ids in first.classifier.tokenizer(list(texts))["input_ids"]}
    assert {text: hidden.shape for text, hidden in states.items()} == {text: (len(text), 384) for text in tokens}
    kept = dict(states)
    again = train(lora, data, progress=False, frozen=cache)
    assert all(states[text] is hidden for text, hidden in kept.items())  # no layer of the prefix ran
    assert again.costs.encode_seconds == first.costs.encode_seconds == shared.seconds
    assert again.costs.seconds > shared.probe_seconds > 0
    assert confidences(again) == pytest.approx(confidences(first), abs=1e-6)
    # What is shared was in memory before, so it is added to the measured peak.
    assert again.costs.peak_memory_bytes > sum(hidden.nbytes for hidden in states.values()) + shared.vectors.nbytes
    deeper = train(TrainConfig(rank=2, epochs=1, batch_size=8, top_layers=2), data, progress=False, frozen=cache)
    assert [layers for *model, layers in cache.states] == [5, 4]
    assert confidences(deeper) != pytest.approx(confidences(first), abs=1e-6)
    known = len(cache.embeddings)
    probe = train(TrainConfig(method="probe"), data, progress=False, frozen=cache)
    assert probe.costs.encode_seconds == shared.seconds
    train(TrainConfig(method="probe", max_length=32), data, progress=False, frozen=cache)
    assert len(cache.embeddings) == known + 1  # other inputs, other embeddings


def test_a_training_ends_after_its_steps(data):
    config = TrainConfig(rank=2, epochs=2, batch_size=8, max_steps=4, head="linear")  # 24 texts, 3 steps per epoch
    result = train(config, data, progress=False, curve=3)
    assert [row["examples"] for row in result.curve] == [0, 8, 16, 24, 32]
    assert result.costs.rows_seen == 32
    whole = train(config.model_copy(update={"max_steps": 100}), data, progress=False)
    assert whole.costs.rows_seen == 48
    assert confidences(whole) == confidences(train(config.model_copy(update={"max_steps": None}), data, progress=False))
