"""The artifact folder is written atomically, its evidence verifies, and the model card's numbers equal the records."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from bankllm.datasets import Dataset
from bankllm.datasets.banking77 import LICENCE
from bankllm.errors import ModelError, RunError, UsageError
from bankllm.evidence.claim_syntax import CLAIM
from bankllm.evidence.records import read_records
from bankllm.evidence.verification.verify import Finding, verify
from bankllm.model import base_models
from bankllm.model.artifact import ClassifierConfig, Pooling
from bankllm.model.encoder import EncoderWithHead
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training.artifact_records import Costs
from bankllm.training.config import TrainConfig
from bankllm.training.model_card import check_output, write_artifact
from bankllm.training.train import TrainResult, train
from tests.support.sealed_run import TELLER77
from tests.support.small_training import three_intents

COSTS = Costs(
    device="cpu",
    precision="fp32",
    encode_seconds=1.5,
    seconds=10.25,
    rows_seen=4000,
    truncated=3,
    peak_memory_bytes=300 * 2**20,
    trainable_parameters=1234,
    total_parameters=5678,
    adapter_bytes=0,
)
PREDICTIONS: list[dict[str, object]] = [
    {"text_id": i, "actual": "card", "predicted": "card" if i < 3 else "cash", "confidence": 0.75} for i in range(4)
]


def tiny(method: str = "probe", dataset: str = "teller77[2 intents]", base: str = "minilm") -> IntentClassifier:
    """A classifier with random weights, because the weights do not matter in these tests."""
    hashes = {key: TELLER77[key] for key in ("train_sha256", "test_sha256")}
    data = {"dataset": dataset, "train_rows": 2000, "test_rows": 74, **hashes}
    config = TrainConfig(rank=4, method=method, base_model=base).model_dump(mode="json")
    artifact = ClassifierConfig(
        label_names=("card", "cash"),
        base_model=base,
        base_sha256=base_models.MINILM_SHA256 if base == "minilm" else None,
        pooling="mean",
        logit_scale=20,
        max_length=64,
        quantised=False,
        method=method,
        training={**data, "config": config},
    )
    body = BertModel(
        BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    )
    return IntentClassifier(EncoderWithHead(body, 2, "mean", 20), None, artifact, "cpu")  # type: ignore[arg-type]


def write(
    folder: Path, classifier: IntentClassifier, predictions: Sequence[dict[str, object]] = PREDICTIONS
) -> ModelCard:
    write_artifact(classifier, folder, predictions, COSTS)
    return ModelCard.load(folder / "README.md")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainResult, Dataset]:
    """A trained LoRA artifact of three intents: its folder, the result of the training, and the data set."""
    folder, data = tmp_path_factory.mktemp("card") / "lora", three_intents(12)
    return folder, train(TrainConfig(rank=4, epochs=1), data, folder, progress=False), data


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", "training.json"])
@pytest.mark.parametrize("fault", ["empty", "cut off", "text", "another", "a folder"])
def test_a_damaged_adapter_is_refused(lora, tmp_path: Path, file: str, fault: str) -> None:
    shutil.copytree(lora[0], tmp_path / "lora")
    path = tmp_path / "lora" / file
    content = path.read_bytes()
    if fault == "another":
        content = b"{}"
        if file.endswith(".safetensors"):
            save_file({"base_model.model.decoder.lora_A.weight": torch.ones(4, 8)}, path)
            content = path.read_bytes()
    else:
        content = {"empty": b"", "cut off": content[: len(content) // 2], "text": b"version https://git-lfs"}.get(
            fault, b""
        )
    path.write_bytes(content)
    if fault == "a folder":
        path.unlink()
        path.mkdir()
    with pytest.raises(
        ModelError, match=r"The adapter of lora cannot be loaded|training\.json (is invalid|cannot be read)"
    ):
        IntentClassifier.load(tmp_path / "lora")


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_code_snippets_of_the_card_run_and_agree(
    lora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pooling: Pooling
) -> None:
    _, result, _ = lora
    folder = tmp_path / "artifact"
    artifact = result.classifier.artifact.model_copy(update={"pooling": pooling})
    module = EncoderWithHead(result.classifier.module.body, 3, pooling, artifact.logit_scale)
    module.head = result.classifier.module.head
    card = write(folder, IntentClassifier(module, result.classifier.tokenizer, artifact, "cpu"), result.predictions)
    ours, plain = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    base = f'base = "{base_models.MINILM_ID}"'
    assert base in plain
    plain = plain.replace(base, f"base = {base_models.resolve('minilm').location!r}")
    monkeypatch.chdir(folder)
    exec(ours, {})
    intents = re.findall(r"intent='(\w+)'", capsys.readouterr().out)
    exec(plain, {})
    assert intents == [capsys.readouterr().out.strip()]
    assert intents[0] in artifact.label_names


def test_the_evidence_verifies_and_the_card_states_the_numbers_of_the_records(lora) -> None:
    folder, result, data = lora
    verdict = verify(folder)
    assert verdict.holds, verdict.findings
    assert verdict.findings[-1] == Finding("README.md", "ok", "13 numbers agree with their records")
    records = {record.id: record for record in read_records(folder)}
    right = sum(row["actual"] == row["predicted"] for row in result.predictions)
    assert records["accuracy"].value == right / len(data.test)
    assert records["train_s"].value == pytest.approx(result.costs.encode_seconds + result.costs.seconds)
    assert records["adapter"].value == result.costs.adapter_bytes > 0
    assert records["trainable"].value == result.costs.trainable_parameters
    assert records["accuracy"].conditions.items() >= data.conditions().items()
    assert records["accuracy"].conditions["host"]["device"] == result.costs.device

    card = ModelCard.load(folder / "README.md")
    found = [(r.metric_type, r.metric_name, r.metric_value) for r in card.data.eval_results]
    hub_names = {"accuracy": "accuracy", "macro_f1": "f1", "expected_calibration_error": "expected_calibration_error"}
    assert found == [(name, records[id].title, records[id].value) for id, name in hub_names.items()]
    assert {match["id"] for match in CLAIM.finditer(card.text)} == set(records)


TAMPERINGS = [
    ("README.md", r"value: 0\.75\n", "value: 0.85\n", "model-index: expected Accuracy 0.75, as in the records, found"),
    ("README.md", r"75\.0 %", "95.0 %", "accuracy: expected '75.0 %' as in the record, found '95.0 %'"),
    ("README.md", None, None, "README.md is missing"),
    ("raw/predictions.csv", ",cash,", ",card,", "raw/predictions.csv was changed"),
    ("head.safetensors", None, None, "the records name it, but it is missing"),
    ("training.json", '"cash"', '"coin"', "expected sha256"),
]
"""File, what is replaced in it (None: the file is deleted), by what, and the finding."""


@pytest.mark.parametrize(("name", "old", "new", "detail"), TAMPERINGS)
def test_verify_detects_and_names_each_manipulation(
    tmp_path: Path, name: str, old: str | None, new: str | None, detail: str
) -> None:
    path = tmp_path / "artifact" / name
    write(tmp_path / "artifact", tiny())
    assert verify(tmp_path / "artifact").holds
    if old is None or new is None:
        path.unlink()
    else:
        changed = re.sub(old, new, path.read_text(), count=1)
        assert changed != path.read_text()
        path.write_text(changed)
    broken = [finding for finding in verify(tmp_path / "artifact").findings if not finding.holds]
    assert any(detail in finding.detail for finding in broken), broken


def test_the_front_matter_has_the_format_of_the_hub_and_the_text_states_data_and_settings(tmp_path: Path) -> None:
    card = write(tmp_path / "artifact", tiny("probe"))
    front_matter = yaml.safe_load((tmp_path / "artifact" / "README.md").read_text().split("---\n")[1])
    index = front_matter.pop("model-index")
    assert front_matter == {
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "library_name": "transformers",
        "license": "cc0-1.0",
        "pipeline_tag": "text-classification",
        "language": "en",
        "tags": ["banking", "intent-classification", "probe"],
    }
    assert [model["name"] for model in index] == ["kernel head alone on sentence-transformers/all-MiniLM-L6-v2"]
    assert index[0]["results"][0]["dataset"] == {"type": "teller77", "name": "teller77[2 intents]", "split": "test"}
    assert f"| teller77[2 intents], train | 2,000 | `{TELLER77['train_sha256']}` |" in card.text
    assert "| Accuracy | <!-- claim: accuracy -->75.0 %<!-- /claim --> | 30.1 – 95.4 % |" in card.text
    assert "| Training time, embedding included | <!-- claim: train_s -->11.8 s<!-- /claim --> |" in card.text
    assert "device cpu, precision fp32, cores" in card.text
    assert '"rank": 4' in card.text


@pytest.mark.parametrize(
    ("dataset", "method", "license", "expected"),
    [
        ("banking77", "lora", "cc-by-4.0", LICENCE.notice),
        ("teller77", "probe", "cc0-1.0", "CC0 1.0"),
        ("teller77", "full", None, "CC0 1.0"),  # the folder contains the weights of the base model
        ("my-texts", "lora", None, "The licence of the data is unknown."),
    ],
)
def test_the_licence_of_the_card_depends_on_the_data(
    tmp_path: Path, dataset: str, method: str, license: str | None, expected: str
) -> None:
    card = write(tmp_path / "artifact", tiny(method, dataset))
    assert card.data.get("license") == license
    assert expected in card.text


def test_without_test_texts_the_card_claims_no_quality(tmp_path: Path) -> None:
    card = write(tmp_path / "artifact", tiny(), predictions=[])
    assert card.data.eval_results is None
    assert "| Accuracy | not measured: the data set has no test texts | – |" in card.text
    verdict = verify(tmp_path / "artifact")
    assert (verdict.holds, verdict.counts()["not measured"], verdict.counts()["ok"]) == (True, 3, 8)


def test_no_local_path_is_published(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    write(tmp_path / "artifact", tiny(base=str(tmp_path / "base")))
    for name in ("README.md", "records.jsonl", "raw/cost.csv"):
        assert str(tmp_path) not in (tmp_path / "artifact" / name).read_text(), name


def test_an_earlier_artifact_is_replaced_completely_or_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "adapter"
    write_artifact(tiny(), output, PREDICTIONS, COSTS)
    (output / "stale").touch()
    write_artifact(tiny(), output, PREDICTIONS, COSTS)
    assert not (output / "stale").exists()
    before = (output / "README.md").read_text()

    def full_disk(self, folder):
        (folder / "head.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IntentClassifier, "save", full_disk)
    with pytest.raises(RunError, match=r"cannot be written to .*No space left on device"):
        write_artifact(tiny(), output, PREDICTIONS, COSTS)
    assert (output / "README.md").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_result_that_cannot_be_written_to_its_folder_names_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")  # since the check at the start of the training
    with pytest.raises(RunError, match=r"cannot be written to .*runs/adapter \(Not a directory\).*same checkpoint"):
        write_artifact(tiny(), tmp_path / "runs" / "adapter", PREDICTIONS, COSTS, iter([{"row": 1}]))


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "adapter")
    check_output(tmp_path / "link")
    write_artifact(tiny(), tmp_path / "link", PREDICTIONS, COSTS)
    assert verify(tmp_path / "disk" / "adapter").holds
    assert (tmp_path / "link").is_symlink()


def test_unrelated_folders_and_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="exists and is not a trained classifier"):
        check_output(tmp_path)
    with pytest.raises(RunError, match="cannot be written"):
        check_output(tmp_path / "notes.txt" / "adapter")
    with pytest.raises(UsageError, match="is not a trained classifier"):
        check_output(Path("/proc"))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(RunError, match=r"cannot be written .*a link to itself"):
        check_output(tmp_path / "loop")
    check_output(tmp_path / "new" / "adapter")
    (tmp_path / "new" / "adapter").mkdir()
    (tmp_path / "new" / "adapter" / ".DS_Store").touch()
    check_output(tmp_path / "new" / "adapter")
