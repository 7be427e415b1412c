"""Base models are found and their weights checked, and a classifier is saved, loaded and used."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bankllm import training
from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models
from bankllm.model.artifact import ClassifierConfig
from bankllm.model.encoder import EncoderWithHead, pool
from bankllm.model.torch_classifier import IntentClassifier, load_body, load_tokenizer


def test_minilm_has_the_published_weights() -> None:
    base = base_models.resolve("minilm")
    assert base.sha256 == base_models.MINILM_SHA256
    assert base_models.resolve(base_models.MINILM_ID) == base


def test_other_weights_under_minilms_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / base_models.WEIGHTS).write_bytes(b"other weights")
    with pytest.raises(
        ModelError, match=r"minilm: expected weights with sha256 53aa.*found .*damaged, or it belongs to another model"
    ):
        base_models.check_weights(tmp_path, base_models.MINILM_SHA256, "minilm")
    with pytest.raises(ModelError, match="is missing"):
        base_models.check_weights(tmp_path / "none", base_models.MINILM_SHA256, "minilm")


def test_folders_and_hub_ids_are_accepted(tmp_path: Path) -> None:
    (tmp_path / base_models.WEIGHTS).write_bytes(b"weights")
    own = base_models.resolve(str(tmp_path))
    assert (own.name, own.sha256) == (tmp_path.name, base_models.sha256_of(str(tmp_path / base_models.WEIGHTS)))
    assert base_models.resolve("org/model") == base_models.BaseModel("org/model", "org/model", None)
    with pytest.raises(ModelError, match=r"No model folder at \./nowhere"):
        base_models.resolve("./nowhere")


def test_a_model_that_cannot_be_loaded_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tmp_path.joinpath("config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_body(base_models.resolve(str(tmp_path)), quantised=False, device="cpu")


def test_required_cuda_without_a_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert base_models.device() == "cpu"
    assert base_models.precision("cpu") == "fp32"
    monkeypatch.setenv("BANKLLM_DEVICE", "cuda")
    with pytest.raises(ModelError, match="torch finds no CUDA device"):
        base_models.device()


def test_a_4bit_model_is_loaded_to_the_requested_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `BANKLLM_DEVICE=cpu` on a machine with a GPU, transformers would use the GPU by default."""
    import bitsandbytes  # noqa: F401  bitsandbytes and its integration look for a GPU on import
    import torch
    import transformers.integrations.bitsandbytes  # noqa: F401

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setenv("BANKLLM_DEVICE", "cpu")
    body = load_body(base_models.resolve("minilm"), quantised=True, device="cpu")
    assert {str(parameter.device) for parameter in body.parameters()} == {"cpu"}
    assert "Params4bit" in {type(parameter).__name__ for parameter in body.parameters()}


def test_pooling_uses_only_real_tokens() -> None:
    import torch

    hidden = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert pool(hidden, mask, "mean").flatten().tolist() == [2.0, 4.0]
    assert pool(hidden, mask, "last").flatten().tolist() == [3.0, 6.0]
    assert pool(hidden, mask, "cls").flatten().tolist() == [1.0, 2.0]


@pytest.fixture(scope="module")
def classifier() -> IntentClassifier:
    base = base_models.resolve("minilm")
    module = EncoderWithHead(load_body(base, quantised=False, device="cpu"), 3, "mean", 20.0)
    artifact = ClassifierConfig(
        label_names=("a", "b", "c"),
        base_model="minilm",
        base_sha256=base.sha256,
        pooling="mean",
        logit_scale=20.0,
        max_length=64,
        quantised=False,
        method="probe",
    )
    return IntentClassifier(module, load_tokenizer(base), artifact, "cpu")


def test_a_classifier_gives_the_same_scores_after_saving_and_loading(
    classifier: IntentClassifier, tmp_path: Path
) -> None:
    texts = ["where is my card", "a much longer sentence about a cash machine that kept my card", "hi"]
    before = classifier.score(texts, batch_size=2)
    classifier.save(tmp_path)
    after = IntentClassifier.load(tmp_path).score(texts)
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(after.embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(after.probabilities.sum(axis=1), 1, atol=1e-5)


def test_predictions_are_in_order_and_abstain_below_the_threshold(classifier: IntentClassifier) -> None:
    texts = ["where is my card", "a much longer sentence about a cash machine that kept my card", "hi", ""]
    scores = classifier.score(texts).probabilities
    threshold = float(np.sort(scores.max(axis=1))[1:3].mean())  # between the second and the third
    artifact = classifier.artifact.model_copy(update={"threshold": threshold})
    careful = IntentClassifier(classifier.module, classifier.tokenizer, artifact, "cpu")
    for batch_size in (1, 3, 64):
        found = careful.predict(texts, batch_size=batch_size)
        assert [p.intent for p in found] == ["abc"[row.argmax()] for row in scores]
        assert [p.confidence for p in found] == pytest.approx(scores.max(axis=1).tolist(), abs=1e-5)
        assert [p.abstains for p in found] == (scores.max(axis=1) < threshold).tolist()
        assert sum(p.abstains for p in found) == 2
    assert [p.intent for p in careful.predict(texts[::-1])] == [p.intent for p in found[::-1]]


def test_no_texts_give_no_predictions_and_empty_arrays(classifier: IntentClassifier) -> None:
    assert classifier.predict([]) == []
    scores = classifier.score([])
    assert (scores.probabilities.shape, scores.embeddings.shape) == ((0, 3), (0, 384))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fine", None], r"Text 1 is of type NoneType\. Expected a list of strings \(the first is text 0\)"),
        ([b"bytes", "fine"], r"Text 0 is of type bytes"),
        (["fine", ["nested"]], r"Text 1 is of type list"),
        ("one string", r"Expected a list of texts, got one string\. Put the string into a list"),
    ],
)
def test_the_error_for_an_item_that_is_not_a_text_names_it(
    classifier: IntentClassifier, texts: list[str], message: str
) -> None:
    for call in (classifier.predict, classifier.score):
        with pytest.raises(UsageError, match=message):
            call(texts)


def test_importing_training_load_does_not_import_torch(classifier: IntentClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "artifact")
    loaded = training.load(str(tmp_path / "artifact"))
    assert isinstance(loaded, IntentClassifier)
    assert loaded.predict(["hi"])[0].intent == classifier.predict(["hi"])[0].intent
    code = "import sys, bankllm.training; bankllm.training.load; print({'torch', 'numpy', 'pydantic'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    with pytest.raises(ModelError, match=r"No trained classifier in .*none: training\.json is missing"):
        training.load(tmp_path / "none")


def test_the_embedding_of_a_probe_equals_that_of_sentence_transformers(classifier: IntentClassifier) -> None:
    """Vector search uses this embedding, so one forward pass serves both the intent and the search."""
    from sentence_transformers import SentenceTransformer

    texts = ["where is my card", "I lost my phone on the tram yesterday"]
    encoder = SentenceTransformer(base_models.resolve("minilm").location, device="cpu")
    np.testing.assert_allclose(classifier.score(texts).embeddings, encoder.encode(texts), atol=1e-4)


def test_a_damaged_or_foreign_artifact_is_refused(classifier: IntentClassifier, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No trained classifier in .*training\.json is missing"):
        IntentClassifier.load(tmp_path)
    classifier.save(tmp_path)
    foreign = tmp_path / "foreign"
    shutil.copytree(tmp_path, foreign)
    text = (foreign / "training.json").read_text()
    (foreign / "training.json").write_text(text.replace(base_models.MINILM_SHA256, "0" * 64))
    with pytest.raises(ModelError, match=r"foreign was trained on a base model with sha256 0000"):
        IntentClassifier.load(foreign)
    (tmp_path / "head.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match=r"head\.safetensors is damaged or does not match training\.json"):
        IntentClassifier.load(tmp_path)
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(ModelError, match=r"training\.json is invalid: Field required at label_names"):
        IntentClassifier.load(tmp_path)
