"""Packed texts get the answers that padded ones get, and a model for which they would not is found out."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bankllm
from bankllm.model.export_graphs import PackedGraph, PaddedGraph, SpreadNorm, pack
from bankllm.model.torch_classifier import IntentClassifier, tokenise

ASSISTANT = Path(bankllm.__file__).parent / "data" / "assistant"
TEXTS = ["my card never came", "hi", "where is my money? " * 20]


@pytest.fixture
def classifier() -> IntentClassifier:
    return IntentClassifier.load(ASSISTANT)


def padded(classifier: IntentClassifier) -> tuple[Tensor, Tensor]:
    batch = tokenise(classifier.tokenizer, TEXTS, 256, "pt")
    return batch["input_ids"], batch["attention_mask"]


def test_packing_leaves_the_padding_out() -> None:
    ids = torch.tensor([[7, 8, 9], [5, 0, 0]])
    row, positions, segments, lengths = pack(ids, torch.tensor([[1, 1, 1], [1, 0, 0]]))
    assert row.tolist() == [[7, 8, 9, 5]]
    assert positions.tolist() == [[0, 1, 2, 0]]
    assert segments.tolist() == [0, 0, 0, 1]
    assert lengths.tolist() == [3, 1]


def test_texts_do_not_see_each_other(classifier: IntentClassifier) -> None:
    inputs = padded(classifier)
    with torch.inference_mode():
        expected = PaddedGraph(classifier).eval()(*inputs)
    assert len(expected) == 3
    assert PackedGraph(classifier).eval().gives(expected, *pack(*inputs))


class OwnPositions(nn.Module):
    """A body that counts positions by itself, through the whole row."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.config = body.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None) -> object:
        return self.body(input_ids=input_ids, attention_mask=attention_mask)


class NoPositions(OwnPositions):
    """A body that takes none."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> object:
        return self.body(input_ids=input_ids, attention_mask=attention_mask)


@pytest.mark.parametrize("kind", [OwnPositions, NoPositions])
def test_a_model_that_counts_positions_otherwise_is_found_out(classifier: IntentClassifier, kind: type) -> None:
    classifier.module.body = kind(classifier.module.body)
    inputs = padded(classifier)
    with torch.inference_mode():
        expected = PaddedGraph(classifier).eval()(*inputs)
    assert not PackedGraph(classifier).eval().gives(expected, *pack(*inputs))


def test_the_norm_in_steps_is_the_norm() -> None:
    norm = nn.LayerNorm(16, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    hidden = 50 * torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0)) + 7
    with torch.inference_mode():
        assert torch.allclose(SpreadNorm(norm)(hidden), norm(hidden), atol=1e-5)


def test_no_norm_of_the_graph_is_left_to_the_slow_operator(classifier: IntentClassifier) -> None:
    graph = PackedGraph(classifier)
    assert any(isinstance(part, SpreadNorm) for part in graph.modules())
    assert not any(isinstance(part, nn.LayerNorm) for part in graph.modules())
