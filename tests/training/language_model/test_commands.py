"""`bankllm train --data FILE` fine-tunes a language model on a user's own examples."""

from pathlib import Path

import pytest

from bankllm.datasets.tellerchat import Understand
from tests.support import Cli


def test_a_file_of_examples_becomes_an_adapter(bankllm: Cli, tiny_base: Path, examples, tmp_path: Path) -> None:
    file, output = tmp_path / "mine.jsonl", tmp_path / "adapter"
    long = Understand(messages=("x" * 500,), calls=())
    file.write_text("".join(f"{example.model_dump_json()}\n" for example in [*examples, long]))
    options = ["--base-model", str(tiny_base), "--epochs", "1", "--max-length", "400", "-o", "batch_size=2"]
    result = bankllm("train", str(output), "--data", str(file), *options)
    assert result.returncode == 0, result.stdout
    assert "1 examples of more than 400 tokens left out: number 6" in result.stdout
    assert f"{len(examples)} examples, " in result.stdout
    assert "(mine, sha256" in (output / "README.md").read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": ["hi"], "calls": [{"tool": "dance"}]}', "mine, example 1: Expected a call of one of balance"),
        ('{"messages": ["hi"]}', "mine.jsonl, line 1, calls: Field required"),
        ('{"message": "a", "facts": ["b"], "reply": "c", "required": ["£5"]}', "the reply lacks '£5'"),
    ],
)
def test_a_wrong_example_is_named(line: str, message: str, bankllm: Cli, tiny_base: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(line)
    options = ["--base-model", str(tiny_base)]
    result = bankllm("train", str(tmp_path / "out"), "--data", str(tmp_path / "mine.jsonl"), *options)
    assert result.returncode == 1
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()
