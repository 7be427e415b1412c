"""A tree gives the loss and the gradients of the padded batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from bankllm.datasets.tellerchat import Understand, Word
from bankllm.model import base_models
from bankllm.model.torch_classifier import load_tokenizer
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model import prefix_tree
from bankllm.training.language_model.fine_tune import adapted
from bankllm.training.language_model.token_rows import token_rows


def _model(tiny_base: Path) -> Any:
    base = base_models.resolve(str(tiny_base))
    model = adapted(LanguageModelConfig(base_model=str(tiny_base), rank=4), base, "cpu")
    torch.manual_seed(1)
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.1)  # PEFT starts at 0, where no gradient reaches lora_A
    return model


def test_loss_and_gradients_are_those_of_the_padded_batch(tiny_base: Path, examples: list[Understand | Word]) -> None:
    rows = token_rows(examples, load_tokenizer(base_models.resolve(str(tiny_base))), 512).rows
    model = _model(tiny_base)
    tree = prefix_tree.pack(rows)
    assert tree.input_ids.numel() < tree.tokens == sum(row.length for row in rows)
    with prefix_tree.used_in(model.get_base_model()):
        states = prefix_tree.states_before(model.get_base_model(), tree)
        loss = functional.cross_entropy(model.get_output_embeddings()(states), tree.labels)
        loss.backward()
    gradients = {name: weights.grad.clone() for name, weights in model.named_parameters() if weights.requires_grad}

    model.zero_grad()
    length = max(row.length for row in rows)
    ids, labels = torch.zeros(len(rows), length, dtype=torch.int64), torch.full((len(rows), length), -100)
    for number, row in enumerate(rows):
        ids[number, : row.length] = torch.tensor([*row.prompt, *row.completion])
        labels[number, len(row.prompt) : row.length] = torch.tensor(row.completion)
    mask = torch.tensor([[place < row.length for place in range(length)] for row in rows]).long()
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    expected = functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())
    expected.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, weights in model.named_parameters():
        if weights.requires_grad:
            assert torch.allclose(gradients[name], weights.grad, rtol=1e-3, atol=1e-6), name
