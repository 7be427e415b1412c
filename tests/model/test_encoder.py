"""One forward pass returns adapted and base-model embeddings: the lower layers are shared."""

import numpy as np
import pytest

from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training.config import TrainConfig
from bankllm.training.train import train
from bankllm.vectors.embedder import Embedder
from tests.support.small_training import tiny_decoder

SHORT = {"rank": 2, "epochs": 1, "batch_size": 8, "lr_adapter": 1e-2}


def test_an_adapter_on_the_upper_layers_also_returns_base_embeddings(data, tmp_path):
    result = train(TrainConfig(top_layers=2, **SHORT), data, tmp_path / "adapter", progress=False)
    loaded = IntentClassifier.load(tmp_path / "adapter")
    scores = loaded.score(data.test.texts, batch_size=5)
    assert loaded.shares_base_embedding
    np.testing.assert_allclose(scores.base_embeddings, Embedder().encode(data.test.texts), atol=1e-5)
    np.testing.assert_allclose(scores.embeddings, result.classifier.score(data.test.texts).embeddings, atol=1e-4)
    assert np.abs(scores.embeddings - scores.base_embeddings).max() > 1e-3


@pytest.mark.parametrize("options", [{"top_layers": None}, {"top_layers": 2, "pooling": "cls"}])
def test_other_adapters_do_not_return_base_embeddings(options, data, tmp_path):
    train(TrainConfig(**options, **SHORT), data, tmp_path / "adapter", progress=False)
    assert not IntentClassifier.load(tmp_path / "adapter").shares_base_embedding


def test_a_body_with_a_final_norm_does_not_return_base_embeddings(data, tmp_path):
    base = tiny_decoder(tmp_path / "tiny-llama", data.train.texts, layers=3)  # ends with a norm
    train(TrainConfig(base_model=str(base), top_layers=1, **SHORT), data, tmp_path / "adapter", progress=False)
    loaded = IntentClassifier.load(tmp_path / "adapter")
    assert not loaded.shares_base_embedding
    assert loaded.score(data.test.texts).base_embeddings is None
