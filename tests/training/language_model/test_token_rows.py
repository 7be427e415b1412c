"""Examples become prompt and completion; examples that teach something wrong are refused."""

from pathlib import Path

import pytest

from bankllm.datasets.tellerchat import Understand, Word
from bankllm.errors import DataError
from bankllm.model import base_models
from bankllm.model.torch_classifier import load_tokenizer
from bankllm.training.language_model.token_rows import check_examples, loss_mask, token_rows


def test_only_the_completion_is_in_the_loss(tiny_base: Path, examples: list[Understand | Word]) -> None:
    tokenizer = load_tokenizer(base_models.resolve(str(tiny_base)))
    row = token_rows(examples[2:3], tokenizer, 512).rows[0]
    mask = loss_mask(row, tokenizer)
    learnt = "".join(str(token["token"]) for token in mask if token["in_loss"])
    read = "".join(str(token["token"]) for token in mask if not token["in_loss"])
    assert learnt == '[{"tool":"balance"}]<|im_end|>'
    assert read.endswith("Before: hi\nMessage: and my balance<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (Understand(messages=("hi",), calls=({"tool": "dance"},)), "Expected a call of one of balance"),
        (Understand(messages=("pay Tom",), calls=({"tool": "transfer", "to": "Tim"},)), r"transfer\.to is no piece"),
        (Understand(messages=("fees?",), calls=({"tool": "knowledge"},)), "not valid at knowledge.question"),
        (Word(message="a", facts=("b",), reply="c", required=("£5",)), "the reply lacks '£5'"),
    ],
)
def test_a_wrong_example_is_named(example: Understand | Word, message: str, examples: list[Understand | Word]) -> None:
    with pytest.raises(DataError, match=f"mine, example 2: .*{message}"):
        check_examples([examples[0], example], "mine")
