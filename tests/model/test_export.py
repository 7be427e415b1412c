"""The ONNX graph gives the same results as torch, needs no other files, and is written atomically."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from bitsandbytes.functional import has_avx512bf16

from bankllm.assistant.runtime import DEFAULT_ADAPTER
from bankllm.datasets import load
from bankllm.errors import ModelError, RunError, UsageError
from bankllm.model.export import cached_export, export_onnx
from bankllm.model.onnx_classifier import OnnxClassifier
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.settings import Settings
from bankllm.training.config import TrainConfig
from bankllm.training.train import train
from bankllm.vectors.embedder import Embedder
from tests.support.small_training import three_intents

TEXTS = ["my card never came", "hi", "where is my money? " * 60, ""]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged assistant as ONNX."""
    return export_onnx(DEFAULT_ADAPTER, tmp_path_factory.mktemp("onnx") / "assistant.onnx")


@pytest.fixture(scope="module")
def assistant(graph: Path) -> OnnxClassifier:
    return OnnxClassifier.load(graph)


@pytest.fixture(scope="module")
def classifier() -> IntentClassifier:
    return IntentClassifier.load(DEFAULT_ADAPTER)


@pytest.mark.slow
def test_the_graph_gives_the_results_of_torch_for_all_test_texts_and_sizes(
    assistant: OnnxClassifier, classifier: IntentClassifier
) -> None:
    data = load("auto")  # Banking77 if it is available, otherwise Teller77
    assert len(data.test) == 3080 if data.name == "banking77" else data.name == "teller77"
    ours, theirs = assistant.score(data.test.texts), classifier.score(data.test.texts)
    assert len(set(theirs.probabilities.argmax(axis=1).tolist())) > 50  # not the same label for all texts
    one_by_one = [assistant.predict([text])[0].confidence for text in TEXTS]  # other sizes: one text of each length
    assert one_by_one == pytest.approx([found.confidence for found in classifier.predict(TEXTS)], abs=1e-5)
    assert assistant.predict([]) == []
    np.testing.assert_allclose(ours.probabilities, theirs.probabilities, atol=1e-4)
    np.testing.assert_allclose(ours.embeddings, theirs.embeddings, atol=1e-4)


@pytest.mark.slow
def test_the_graph_has_dynamic_axes(graph: Path) -> None:
    model = onnx.load(graph)
    onnx.checker.check_model(model)
    axes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert axes == {
        "input_ids": [1, "tokens"],
        "position_ids": [1, "tokens"],
        "segments": ["tokens"],
        "lengths": ["batch"],
        "logits": ["batch", 84],
        "embeddings": ["batch", 384],
    }


@pytest.mark.slow
def test_a_classifier_without_mean_pooling_is_exported_for_padded_texts(tmp_path: Path) -> None:
    data = three_intents(8)
    config = TrainConfig(method="lora", rank=2, epochs=1, pooling="cls", head="linear")
    result = train(config, data, tmp_path / "artifact", progress=False)
    classifier = OnnxClassifier.load(export_onnx(tmp_path / "artifact", tmp_path / "classifier.onnx"))
    assert [given.name for given in classifier.session.get_inputs()] == ["input_ids", "attention_mask"]
    assert [p.intent for p in classifier.predict(data.test.texts)] == [row["predicted"] for row in result.predictions]


@pytest.mark.slow
def test_a_head_on_the_base_model_embeds_as_sentence_transformers(
    assistant: OnnxClassifier, classifier: IntentClassifier
) -> None:
    """Vector search uses this embedding, so one forward pass serves both the intent and the search."""
    texts = ["where is my money? " * 80, "hi"]  # the first is longer than the model reads
    expected = Embedder().encode(texts)
    for loaded in (assistant, classifier):
        np.testing.assert_allclose(loaded.score(texts).embeddings, expected, atol=1e-4)
    assert assistant.count_tokens(texts) == classifier.count_tokens(texts) > 2 * len(texts)


def test_a_cached_graph_is_reused_until_the_artifact_changes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(DEFAULT_ADAPTER, tmp_path / "artifact")
    commands = []

    def write(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        Path(command[5]).parent.mkdir(exist_ok=True)
        Path(command[5]).write_text("a graph")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("bankllm.model.export.subprocess.run", write)
    settings = Settings(cache=tmp_path / "cache")
    first = cached_export(tmp_path / "artifact", settings)
    assert cached_export(tmp_path / "artifact", settings) == first
    assert len(commands) == 1
    description = tmp_path / "artifact" / "training.json"
    description.write_text(description.read_text().replace('"threshold": 0.', '"threshold": 0.1'))
    assert cached_export(tmp_path / "artifact", settings) != first
    assert len(commands) == 2


@pytest.mark.parametrize("cache", ["/dev/null", "/dev/null/bankllm", "/proc/bankllm"])
def test_a_cache_that_cannot_be_written_is_replaced_by_a_temporary_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, cache: str
) -> None:
    monkeypatch.setenv("BANKLLM_CACHE", cache)  # restored after the test
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    commands: list[list[str]] = []

    def write_graph(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        Path(command[-1]).touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", write_graph)
    found = [cached_export(DEFAULT_ADAPTER, Settings.model_construct(cache=Path(cache))) for _ in range(2)]
    assert found[0] == found[1] == Path(os.environ["BANKLLM_CACHE"]) / found[0].name  # the workers of a server find it
    assert len(commands) == 1
    (warning,) = caplog.messages
    assert warning.startswith(f"{cache} cannot be written, so a temporary folder is used.")
    assert "set BANKLLM_CACHE to a writable folder" in warning


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapter_is_merged_and_a_4bit_base_is_converted(method: str, tmp_path: Path) -> None:
    data = three_intents(16)
    config = TrainConfig(method=method, rank=2, epochs=1, threshold=0.6)
    result = train(config, data, tmp_path / "artifact", progress=False)
    loaded = OnnxClassifier.load(export_onnx(tmp_path / "artifact", tmp_path / "classifier.onnx"))
    again = loaded.predict(data.test.texts)
    assert [p.intent for p in again] == [row["predicted"] for row in result.predictions]
    # On a CPU with bf16 instructions, bitsandbytes rounds activations and scales to bf16. The graph uses fp32.
    tolerance = 2e-2 if method == "qlora" and has_avx512bf16() else 1e-3
    expected = [row["confidence"] for row in result.predictions]
    assert [p.confidence for p in again] == pytest.approx(expected, abs=tolerance)
    assert [p.abstains for p in again] == [p.confidence < 0.6 for p in again]


def test_a_model_too_large_or_an_output_that_cannot_be_written_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot be written"):
        export_onnx(DEFAULT_ADAPTER, tmp_path / "file" / "out.onnx")
    monkeypatch.setattr("bankllm.model.export.MAX_BYTES", 50_000_000)
    with pytest.raises(UsageError, match=r"weights of 0\.1 GiB in fp32, but one ONNX file can hold only 2 GiB"):
        export_onnx(DEFAULT_ADAPTER, tmp_path / "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_files_that_cannot_be_loaded_raise_model_errors(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.onnx cannot be read \(No such file or directory\)"):
        OnnxClassifier.load(tmp_path / "none.onnx")
    (tmp_path / "cut.onnx").write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"cut\.onnx is not a valid ONNX model"):
        OnnxClassifier.load(tmp_path / "cut.onnx")
    foreign = '<ir_version: 10, opset_import: ["": 18]> g (float[1] x) => (float[1] y) {y = Identity(x)}'
    onnx.save(onnx.parser.parse_model(foreign), tmp_path / "foreign.onnx")
    with pytest.raises(
        ModelError, match=r"foreign\.onnx is not a valid .* that `bankllm export` of this version wrote"
    ):
        OnnxClassifier.load(tmp_path / "foreign.onnx")
