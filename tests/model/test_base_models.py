"""Base models are found and their weights checked, and a classifier is saved, loaded and used."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, BertConfig, BertModel

from bankllm import training
from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models, generation
from bankllm.model.artifact import read_artifact
from bankllm.model.cached_files import check_weights, hub_folder
from bankllm.model.encoder import EncoderWithHead, pool
from bankllm.model.torch_classifier import IntentClassifier, load_body, load_tokenizer
from bankllm.settings import Settings
from bankllm.training.config import TrainConfig
from bankllm.training.train import train
from bankllm.util.file_hash import sha256_of
from bankllm.vectors.embedder import Embedder
from tests.support import ROOT
from tests.support.small_training import three_intents, tiny_decoder

KEPT = ROOT / "outputs" / "reference" / "adapters" / "probe"
"""A published classifier; an earlier version wrote its `training.json`."""
TEXTS = ["where is my card", "a much longer sentence about a cash machine that kept my card", "hi", ""]


def test_minilm_has_the_published_weights(tmp_path: Path) -> None:
    base = base_models.resolve("minilm")
    assert base.sha256 == base_models.MINILM_SHA256
    assert base_models.resolve(base_models.MINILM_ID) == base
    (weights := tmp_path / base_models.WEIGHTS).write_bytes(b"other weights")
    expected = r"minilm: .* has 13 bytes and sha256 .* Expected weights with sha256 53aa.*or it belongs.*Mend it"
    with pytest.raises(ModelError, match=expected):
        check_weights(weights, base_models.MINILM_SHA256, "minilm", "Mend it.")
    with pytest.raises(ModelError, match="is missing"):
        check_weights(tmp_path / "none", base_models.MINILM_SHA256, "minilm", "Mend it.")


def test_folders_and_hub_ids_are_accepted(tmp_path: Path) -> None:
    (tmp_path / base_models.WEIGHTS).write_bytes(b"weights")
    own = base_models.resolve(str(tmp_path))
    assert (own.name, own.sha256) == (tmp_path.name, sha256_of(tmp_path / base_models.WEIGHTS))
    assert base_models.resolve("org/model") == base_models.BaseModel("org/model", "org/model", None)
    with pytest.raises(ModelError, match=r"No model folder at \./nowhere"):
        base_models.resolve("./nowhere")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_body(base_models.resolve(str(tmp_path)), quantised=False, device="cpu")


@pytest.mark.parametrize(("shard", "legacy"), [("1GB", False), ("20KB", True)])
def test_replaced_weights_of_a_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: str, legacy: bool
) -> None:
    """One file or shards, as safetensors or in PyTorch's format; the folder is found from any working folder."""
    data, base = three_intents(4), tmp_path / "base"
    tiny_decoder(base, data.train.texts)
    AutoModel.from_pretrained(base).save_pretrained(base, max_shard_size=shard)
    if legacy:
        for path in base.glob("*.safetensors"):
            torch.save(load_file(path), path.with_name(path.name.replace("model", "pytorch_model")).with_suffix(".bin"))
            path.unlink()
        for path in base.glob("*.index.json"):
            text = path.read_text().replace("model-0", "pytorch_model-0").replace(".safetensors", ".bin")
            path.with_name("pytorch_model.bin.index.json").write_text(text)
            path.unlink()
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(method="probe", base_model="base", pooling="last")
    trained = train(config, data, tmp_path / "probe", progress=False).classifier
    monkeypatch.chdir("/")
    assert training.load(tmp_path / "probe").artifact == trained.artifact
    weights = max(base.glob("*.bin" if legacy else "*.safetensors"))
    changed = torch.load(weights) if legacy else load_file(weights)
    changed = {name: tensor + 1 for name, tensor in changed.items()}
    torch.save(changed, weights) if legacy else save_file(changed, weights, {"format": "pt"})
    with pytest.raises(ModelError, match="probe was trained on a base model with sha256"):
        training.load(tmp_path / "probe")


def test_only_a_folder_with_the_weights_of_minilm_has_its_name(tmp_path: Path) -> None:
    shutil.copytree(base_models.resolve("minilm").location, tmp_path / "copy")
    assert base_models.resolve(str(tmp_path / "copy")).conditions() == base_models.resolve("minilm").conditions()
    other = tmp_path / "all-MiniLM-L6-v2"
    other.mkdir()
    (other / base_models.WEIGHTS).write_bytes(b"other weights")
    assert base_models.resolve(str(other)).name == "folder all-MiniLM-L6-v2"


def damaged(folder: Path, fault: str) -> None:
    """A one-layer encoder with its tokenizer in `folder`, and one fault."""
    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=30522
    )
    BertModel(config).save_pretrained(folder)
    load_tokenizer(base_models.resolve("minilm")).save_pretrained(folder)
    weights = folder / base_models.WEIGHTS
    content = weights.read_bytes()
    match fault:
        case "empty":
            weights.write_bytes(b"")
        case "cut off in the tensors":
            weights.write_bytes(content[:-1000])
        case "pointer":
            weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:53aa5117\nsize 90868376\n")
        case "header without tensors":
            weights.write_bytes((2).to_bytes(8, "little") + b"{}")
        case "others":
            save_file({"decoder.weight": torch.ones(8, 8)}, weights, {"format": "pt"})
        case "shapes":
            save_file({name: tensor[..., :4].clone() for name, tensor in load_file(weights).items()}, weights)
        case "old format, cut off":
            weights.unlink()
            torch.save({"a": torch.ones(100)}, folder / "pytorch_model.bin")
            (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes()[:500])
        case "config":
            (folder / "config.json").write_text('{"model_type": "be')
        case "none":
            weights.unlink()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("empty", r"is no safetensors file, or is cut off: .* \(0 bytes\)\. Expected the complete weights"),
        ("cut off in the tensors", "file not fully covered"),
        ("pointer", "is no safetensors file, or is cut off"),
        ("header without tensors", "has no tensors"),
        ("others", "its weights lack 2. tensors that its config.json describes, such as embeddings"),
        ("shapes", "RuntimeError"),
        ("old format, cut off", "pytorch_model.bin is cut off, or is no file of PyTorch"),
        ("config", "config.json"),
        ("none", "no file named"),
    ],
)
def test_weights_that_are_cut_off_or_are_none_are_refused(tmp_path: Path, fault: str, message: str) -> None:
    damaged(tmp_path, fault)
    base = base_models.resolve(str(tmp_path))
    with pytest.raises(ModelError, match=f"(?s)The base model {base.name} cannot be loaded.*{message}"):
        load_body(base, quantised=False, device="cpu")
    if fault not in ("shapes", "config", "none"):  # the export, a process of its own, finds them with `load_body`
        with pytest.raises(ModelError, match="cannot be loaded"):
            Embedder(str(tmp_path), settings=Settings(cache=tmp_path / "cache"))
    with pytest.raises(ModelError, match=r"cannot be loaded|could not be loaded"):
        generation.load(str(tmp_path), engine="transformers")


@pytest.mark.parametrize("name", ["org/model", "two words"])
def test_offline_no_model_is_looked_for_on_a_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    base = base_models.resolve(name)
    message = f"BANKLLM_OFFLINE=1 forbids the download of {name}, and it is not in the Hugging Face cache"
    for use in (
        lambda: load_body(base, quantised=False, device="cpu"),
        lambda: load_tokenizer(base),
        lambda: Embedder(name),
        lambda: generation.load(name, engine="transformers", settings=Settings(offline=True)),
    ):
        with pytest.raises(ModelError, match=message):
            use()


def test_offline_a_cached_model_is_used_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--org--model" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    refs = tmp_path / "models--org--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("c0ffee")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    damaged(snapshot, "nothing")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    base = base_models.resolve("org/model")
    assert load_body(base, quantised=False, device="cpu").config.hidden_size == 8
    assert load_tokenizer(base)("hello").input_ids
    settings = Settings(offline=True, cache=tmp_path / "cache")
    assert Embedder("org/model", settings=settings).encode(["hello"]).shape == (1, 8)


def test_required_cuda_without_a_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert base_models.device() == "cpu"
    assert base_models.precision("cpu") == "fp32"
    monkeypatch.setenv("BANKLLM_DEVICE", "cuda")
    with pytest.raises(ModelError, match="torch finds no CUDA device"):
        base_models.device()


def test_a_4bit_model_is_loaded_to_the_requested_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `BANKLLM_DEVICE=cpu` on a machine with a GPU, transformers would use the GPU by default."""
    import bitsandbytes  # noqa: F401  bitsandbytes and its integration look for a GPU on import
    import transformers.integrations.bitsandbytes  # noqa: F401

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setenv("BANKLLM_DEVICE", "cpu")
    body = load_body(base_models.resolve("minilm"), quantised=True, device="cpu")
    assert {str(parameter.device) for parameter in body.parameters()} == {"cpu"}
    assert "Params4bit" in {type(parameter).__name__ for parameter in body.parameters()}


def test_pooling_uses_only_real_tokens() -> None:
    hidden = torch.tensor([[[1.0], [3.0], [100.0]], [[2.0], [4.0], [6.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert pool(hidden, mask, "mean").flatten().tolist() == [2.0, 4.0]
    assert pool(hidden, mask, "last").flatten().tolist() == [3.0, 6.0]
    assert pool(hidden, mask, "cls").flatten().tolist() == [1.0, 2.0]


@pytest.fixture(scope="module")
def classifier() -> IntentClassifier:
    base = base_models.resolve("minilm")
    module = EncoderWithHead(load_body(base, quantised=False, device="cpu"), 3, "mean", 20.0)
    kept = read_artifact(KEPT).model_copy(update={"label_names": ("a", "b", "c"), "logit_scale": 20.0})
    return IntentClassifier(module, load_tokenizer(base), kept, "cpu")


def test_a_classifier_gives_the_same_scores_after_saving_and_loading(
    classifier: IntentClassifier, tmp_path: Path
) -> None:
    before = classifier.score(TEXTS, batch_size=2)
    classifier.save(tmp_path)
    loaded = training.load(str(tmp_path))
    assert loaded.artifact == classifier.artifact
    after = loaded.score(TEXTS)
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(after.embeddings, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(after.probabilities.sum(axis=1), 1, atol=1e-5)
    assert classifier.predict([]) == []
    nothing = classifier.score([])
    assert (nothing.probabilities.shape, nothing.embeddings.shape) == ((0, 3), (0, 384))


def test_predictions_are_in_order_and_abstain_below_the_threshold(classifier: IntentClassifier) -> None:
    scores = classifier.score(TEXTS).probabilities
    threshold = float(np.sort(scores.max(axis=1))[1:3].mean())  # between the second and the third
    artifact = classifier.artifact.model_copy(update={"threshold": threshold})
    careful = IntentClassifier(classifier.module, classifier.tokenizer, artifact, "cpu")
    for batch_size in (1, 3, 64):
        found = careful.predict(TEXTS, batch_size=batch_size)
        assert [p.intent for p in found] == ["abc"[row.argmax()] for row in scores]
        assert [p.confidence for p in found] == pytest.approx(scores.max(axis=1).tolist(), abs=1e-5)
        assert [p.abstains for p in found] == (scores.max(axis=1) < threshold).tolist()
        assert sum(p.abstains for p in found) == 2
    assert [p.intent for p in careful.predict(TEXTS[::-1])] == [p.intent for p in found[::-1]]


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


def test_importing_training_load_does_not_import_torch() -> None:
    code = "import sys, bankllm.training; bankllm.training.load; print({'torch', 'numpy', 'pydantic'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_damaged_or_foreign_artifact_is_refused(classifier: IntentClassifier, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"No trained classifier in .*training\.json is missing"):
        training.load(tmp_path)
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


def test_without_the_package_of_the_hub_the_error_names_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"some/model cannot be downloaded .*ModuleNotFoundError"):
        hub_folder("some/model", offline=False)
