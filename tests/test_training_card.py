"""The artefact folder: whole or not at all, never over something else, with a card that parses."""

import pytest
import yaml
from transformers import BertConfig, BertModel

from bankllm.classifier import Artefact, EncoderWithHead, IntentClassifier
from bankllm.errors import RunError, UsageError
from bankllm.training.card import check_output, model_card, write_artefact
from bankllm.training.config import TrainConfig


@pytest.fixture
def artefact() -> Artefact:
    data = {"dataset": "teller77[2 intents]", "train_rows": 2000, "test_rows": 74}
    return Artefact(
        label_names=("card", "cash"),
        base_model="minilm",
        base_sha256=None,
        pooling="mean",
        logit_scale=20,
        max_length=64,
        quantised=False,
        method="lora",
        training={
            **data,
            "train_sha256": "a" * 64,
            "test_sha256": "b" * 64,
            "config": TrainConfig(rank=4).model_dump(),
        },
    )


@pytest.fixture
def classifier(artefact) -> IntentClassifier:
    config = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    return IntentClassifier(EncoderWithHead(BertModel(config), 2, "mean", 20), None, artefact, "cpu")


def test_the_card_has_front_matter_counts_hashes_and_the_score(artefact):
    _, front_matter, text = model_card(artefact, right=60, tested=74).split("---\n", 2)
    assert yaml.safe_load(front_matter) == {
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "library_name": "peft",
        "pipeline_tag": "text-classification",
        "language": "en",
        "tags": ["banking", "intent-classification", "lora"],
    }
    assert "LoRA (r = 4)" in text
    assert "**81.1%** of the test texts get the right intent (60 of 74)" in text
    assert f"| teller77[2 intents], train | 2,000 | `{'a' * 64}` |" in text


def test_without_test_texts_the_card_claims_nothing(artefact):
    assert "not tested" in model_card(artefact, right=0, tested=0)


def test_an_earlier_artefact_is_replaced_and_nothing_else_is_left(classifier, tmp_path):
    output = tmp_path / "adapter"
    write_artefact(classifier, output, 1, 2)
    (output / "stale").touch()
    weights = write_artefact(classifier, output, 2, 2)
    assert sorted(path.name for path in output.iterdir()) == ["README.md", "head.safetensors", "training.json"]
    assert weights == (output / "head.safetensors").stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_a_failed_write_leaves_the_earlier_artefact(classifier, tmp_path, monkeypatch):
    output = tmp_path / "adapter"
    write_artefact(classifier, output, 1, 2)
    before = (output / "README.md").read_text()

    def full_disk(self, folder):
        folder.mkdir()
        (folder / "head.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IntentClassifier, "save", full_disk)
    with pytest.raises(RunError, match=r"cannot be written to .*No space left on device"):
        write_artefact(classifier, output, 2, 2)
    assert (output / "README.md").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_other_peoples_folders_and_files_are_not_overwritten(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds something that is not a trained classifier"):
        check_output(tmp_path)
    with pytest.raises(RunError, match="cannot be written"):
        check_output(tmp_path / "notes.txt" / "adapter")
    check_output(tmp_path / "new" / "adapter")
