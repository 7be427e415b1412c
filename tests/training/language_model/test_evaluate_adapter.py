"""An adapter is evaluated on test sets, and its folder holds the evidence."""

import shutil
from pathlib import Path

import pytest

from bankllm.datasets.tellerchat import Understand, Word
from bankllm.errors import ModelError
from bankllm.evidence.records import read_records
from bankllm.evidence.verification.verify import verify
from bankllm.model import generation
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model.evaluate_adapter import evaluate
from bankllm.training.language_model.fine_tune import fine_tune
from tests.support import Cli


@pytest.fixture
def adapter(tiny_base: Path, examples, tmp_path: Path) -> Path:
    fine_tune(LanguageModelConfig(base_model=str(tiny_base), max_steps=1), examples, tmp_path / "a", progress=False)
    return tmp_path / "a"


@pytest.mark.slow
def test_outputs_of_adapter_base_and_rules_are_compared(adapter: Path, tiny_base: Path, examples) -> None:
    understand = [example for example in examples if isinstance(example, Understand)] * 8
    understand = [example.model_copy(update={"phenomena": ("plain",)}) for example in understand]
    word = [example for example in examples if isinstance(example, Word)]
    evaluate(
        adapter,
        lambda folder: generation.load(str(tiny_base), folder, engine="transformers"),
        understand,
        word,
        untuned=True,
    )
    records = {record.id: record for record in read_records(adapter)}
    assert {path.name.removesuffix(".csv.gz") for path in (adapter / "raw").glob("understand*")} == {
        *("understand", "understand_free", "understand_routed", "understand_rules"),
        *("understand_untuned", "understand_untuned_free"),
    }
    assert records["understand_rules_valid"].value == 1
    assert records["understand_routed_exact"].value == records["understand_rules_exact"].value, "no output is readable"
    assert records["understand_routed_by_model"].value == 0
    assert records["plain_exact"].n == len(understand)
    difference = records["understand_exact"].value - records["understand_rules_exact"].value  # type: ignore[operator]
    assert records["against_rules_difference"].value == pytest.approx(difference)
    assert records["against_rules_p"].unit == "p"
    assert records["speed_word_untuned_tokens_per_s"].value
    verdict = verify(adapter)
    assert verdict.holds, verdict.summary()


def test_an_adapter_of_another_base_is_refused(adapter: Path, tiny_base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in tiny_base.iterdir():
        content = path.read_bytes()
        (other / path.name).write_bytes(content[:-1] + b"!" if path.suffix == ".safetensors" else content)
    with pytest.raises(ModelError, match=r"was trained on tiny-language-model.* with the weights sha256 .* own base"):
        generation.load(str(other), adapter, engine="transformers")


def test_a_base_without_chat_template_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_base, tmp_path / "base", ignore=shutil.ignore_patterns("chat_template*"))
    with pytest.raises(ModelError, match=r"has no chat template.*Expected an instruction-tuned model"):
        generation.load(str(tmp_path / "base"), engine="transformers")


def test_a_folder_without_adapter_is_explained(bankllm: Cli, tmp_path: Path) -> None:
    result = bankllm("evaluate", str(tmp_path))
    assert result.returncode == 2
    assert "is no adapter of a language model. Expected one of `bankllm train --data`" in " ".join(
        result.stderr.split()
    )
