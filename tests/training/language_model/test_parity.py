"""An export is compared with PEFT's own outputs."""

import shutil
from pathlib import Path

import pytest

from bankllm.errors import RunError, UsageError
from bankllm.evidence.records import read_records
from bankllm.evidence.verification.verify import verify
from bankllm.model import base_models
from bankllm.model.generation.merged_weights import export_merged, merged_model
from bankllm.model.generation.streams import chat_tokenizer
from bankllm.model.generation.transformers_engine import TransformersEngine
from bankllm.settings import Settings
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model.fine_tune import fine_tune
from bankllm.training.language_model.parity import generated, greedy, parity_rows
from tests.support import Cli


@pytest.fixture
def adapter(tiny_base: Path, examples, tmp_path: Path) -> Path:
    config = LanguageModelConfig(base_model=str(tiny_base), max_steps=4, learning_rate=1e-2)
    fine_tune(config, examples, tmp_path / "mine", progress=False)
    return tmp_path / "mine"


def test_any_draft_leads_to_the_greedy_output(adapter: Path, tiny_base: Path, examples) -> None:
    base, settings = base_models.resolve(str(tiny_base)), Settings()
    expected = generated(TransformersEngine(base, adapter, settings), examples)
    model = merged_model(base, adapter, settings, merge=False)
    drafts = [expected[0], [*expected[1][:5], 7], [3], [*expected[3][:-1], 4], [5] * 128]
    tokenizer = chat_tokenizer(str(tiny_base), "tiny")
    assert greedy(model, tokenizer, examples, drafts) == expected


def test_other_tokens_of_an_export_are_counted(tiny_base: Path, examples) -> None:
    tokenizer = chat_tokenizer(str(tiny_base), "tiny")
    right = tokenizer('[{"tool":"balance"}]')["input_ids"]
    wrong = tokenizer('[{"tool":"dance"}]')["input_ids"]
    (row,) = parity_rows([examples[2]], [], [wrong], [right], tokenizer)
    assert (row["own"], row["exported"], row["same"]) == (row["actual"], "invalid", "no")
    assert row["different_tokens"] == len('balance"}]')
    figure = tokenizer("£99")["input_ids"]
    (row,) = parity_rows([], [examples[3]], [figure], [tokenizer("£12.50")["input_ids"]], tokenizer)
    assert (row["own"], row["exported"]) == ("yes", "no")


@pytest.mark.slow
def test_a_merged_export_is_checked(adapter: Path, tiny_base: Path, bankllm: Cli) -> None:
    options = ["--to", "merged", "--check", "--examples", "3", "--base-model", str(tiny_base)]
    result = bankllm("export", str(adapter), *options)
    assert result.returncode == 0, result.stderr
    records = {record.id: record for record in read_records(adapter)}
    assert records["parity_merged_understand_difference"].value == 0
    assert records["parity_merged_word_same"].n == 3
    assert base_models.resolve(str(adapter.with_name("mine-merged"))).sha256
    verdict = verify(adapter)
    assert verdict.holds, verdict.summary()


def test_an_export_that_is_not_possible_is_explained(adapter: Path, tiny_base: Path, bankllm: Cli, tmp_path: Path):
    result = bankllm("export", str(adapter), "--to", "onnx")
    assert result.returncode == 2
    assert "Expected --to merged or --to gguf" in " ".join(result.stderr.split())
    result = bankllm("export", str(adapter), "--to", "gguf", "--base-model", str(tiny_base))
    assert result.returncode == 1
    assert "which bankllm writes for SmolLM2" in " ".join(result.stderr.split())
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}


def test_nothing_is_left_of_a_failed_export(adapter: Path, tiny_base: Path, tmp_path: Path, monkeypatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    base, settings = base_models.resolve(str(tiny_base)), Settings()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copy", full)
        with pytest.raises(RunError, match=r"No space left on device.*Nothing was kept"):
            export_merged(base, adapter, tmp_path / "out", settings)
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}
    with pytest.raises(UsageError, match="Choose a new or empty folder"):
        export_merged(base, adapter, adapter, settings)
