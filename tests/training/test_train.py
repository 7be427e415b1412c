"""Small real trainings: MiniLM with each method, and a decoder with random weights."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from bankllm.errors import ModelError, UsageError
from bankllm.evidence.records import read_records
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training.config import TrainConfig
from bankllm.training.head import PROBE_C
from bankllm.training.memory import PeakMemory
from bankllm.training.train import TrainResult, train
from tests.support.small_training import confidences, tiny_decoder

WEIGHTS = {
    "probe": {"head.safetensors"},
    "lora": {"head.safetensors", "adapter_model.safetensors"},
    "qlora": {"head.safetensors", "adapter_model.safetensors"},
    "full": {"head.safetensors", "body/model.safetensors"},
}


def accuracy(result: TrainResult) -> float:
    return float(np.mean([row["predicted"] == row["actual"] for row in result.predictions]))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["probe", "lora", "qlora", "full"])
def test_each_method_learns_and_the_loaded_artifact_gives_the_same_predictions(method, data, tmp_path):
    output = tmp_path / "adapters" / method
    result = train(TrainConfig(method=method, rank=4, epochs=1), data, output, progress=False)

    assert accuracy(result) >= 0.7
    again = IntentClassifier.load(output).score(data.test.texts).probabilities
    np.testing.assert_allclose(again.max(axis=1), confidences(result), atol=1e-4)
    assert [data.label_names[i] for i in again.argmax(axis=1)] == [row["predicted"] for row in result.predictions]

    weights = {path.relative_to(output).as_posix(): path.stat().st_size for path in output.rglob("*.safetensors")}
    assert set(weights) == WEIGHTS[method]
    assert result.costs.adapter_bytes == sum(weights.values())
    assert result.classifier.artifact.training["dataset"] == data.name
    assert TrainConfig(**result.classifier.artifact.training["config"]) == result.config
    assert [row["text_id"] for row in result.predictions] == list(range(18))
    assert [row["actual"] for row in result.predictions] == [data.label_names[y] for y in data.test.labels]
    assert result.costs.rows_seen == 24


def test_the_trainable_parameters_are_adapter_and_linear_head(data):
    lora = train(TrainConfig(rank=4, epochs=1, head_init="random", head="linear"), data, progress=False)
    assert lora.costs.trainable_parameters == 3 * 2 * 4 * (384 + 384) + 384 * 3 + 3
    assert lora.costs.total_parameters > 22_000_000
    assert lora.costs.adapter_bytes == 0
    all_layers = TrainConfig(rank=4, epochs=1, head_init="random", top_layers=None, head="linear")
    whole = train(all_layers, data, progress=False)
    assert whole.costs.trainable_parameters == 6 * 2 * 4 * (384 + 384) + 384 * 3 + 3
    assert whole.costs.encode_seconds == 0  # no frozen embeddings are needed
    assert lora.costs.peak_memory_bytes > 80 * 2**20  # the weights are 87 MiB


@pytest.mark.parametrize("intents", [2, 3])
def test_the_probe_is_scikit_learns_regression_on_frozen_embeddings(intents, data):
    some = data.first_intents(intents)
    result = train(TrainConfig(method="probe", rank=0, head="linear"), some, progress=False)
    train_vectors, test_vectors = (result.classifier.score(s.texts).embeddings for s in (some.train, some.test))
    probe = LogisticRegression(C=PROBE_C, max_iter=2000).fit(train_vectors, some.train.labels)
    np.testing.assert_allclose(probe.predict_proba(test_vectors).max(axis=1), confidences(result), atol=1e-3)


def test_a_decoder_trains_with_last_token_pooling_and_loads_again(data, tmp_path):
    base = tiny_decoder(tmp_path / "tiny-llama", data.train.texts)
    config = TrainConfig(base_model=str(base), pooling="last", rank=2, epochs=8, lr_adapter=1e-2, batch_size=8)
    result = train(config, data, tmp_path / "adapter", progress=False)
    assert accuracy(result) > 1 / 3  # chance
    again = IntentClassifier.load(tmp_path / "adapter").score(data.test.texts).probabilities
    np.testing.assert_allclose(again.max(axis=1), confidences(result), atol=1e-4)
    assert str(tmp_path) not in (tmp_path / "adapter" / "adapter_config.json").read_text()


def test_gradient_checkpointing_gives_the_same_result(data):
    plain, saving = (
        train(TrainConfig(rank=4, epochs=1, gradient_checkpointing=switch), data, progress=False)
        for switch in (False, True)
    )
    assert confidences(saving) == pytest.approx(confidences(plain), abs=1e-4)


def test_a_text_of_ten_thousand_words_is_cut_and_counted(data, tmp_path):
    long = replace(data.train, texts=("card " * 10_000, *data.train.texts[1:]))
    result = train(TrainConfig(rank=2, epochs=1), replace(data, train=long), tmp_path / "adapter", progress=False)
    assert result.costs.truncated == 1
    (record,) = [record for record in read_records(tmp_path / "adapter") if record.id == "truncated"]
    assert (record.title, record.value, record.unit) == ("Texts cut at the maximum length", 1, "texts")


SETTINGS = "Lower batch_size or max_length, or set gradient_checkpointing=True"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"), ModelError, SETTINGS),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ModelError, SETTINGS),
        (RuntimeError("shapes cannot be multiplied"), RuntimeError, "shapes cannot be multiplied"),
    ],
)
def test_only_the_out_of_memory_error_names_three_settings(error, kind, message, data, monkeypatch, tmp_path):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr("bankllm.training.trainer.fit", fail)
    with pytest.raises(kind, match=message):
        train(TrainConfig(rank=2), data, tmp_path / "adapter", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU trains in fp16")
def test_fp16_on_a_cpu_is_refused(data):
    with pytest.raises(UsageError, match="Training in fp16 is not possible on a CPU"):
        train(TrainConfig(precision="fp16"), data, progress=False)


def test_peak_memory_includes_memory_freed_before_the_end():
    with PeakMemory("cpu") as memory:
        block, deadline = np.ones(128 * 2**20, dtype=np.uint8), time.monotonic() + 30
        while memory.peak() < 100 * 2**20 and time.monotonic() < deadline:
            time.sleep(0.001)
        del block
    assert 100 * 2**20 < memory.peak() < 400 * 2**20
