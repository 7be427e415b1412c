"""Packed and padded texts give the same outputs, and bodies for which they would differ are detected."""

import pytest
import torch
from torch import Tensor, nn

from bankllm.assistant.runtime import DEFAULT_ADAPTER
from bankllm.model.export_graphs import DecomposedLayerNorm, PackedGraph, PaddedGraph, pack
from bankllm.model.torch_classifier import IntentClassifier, tokenise

TEXTS = ["my card never came", "hi", "where is my money? " * 20]


@pytest.fixture
def classifier() -> IntentClassifier:
    return IntentClassifier.load(DEFAULT_ADAPTER)


def padded(classifier: IntentClassifier) -> tuple[Tensor, Tensor]:
    batch = tokenise(classifier.tokenizer, TEXTS, 256, "pt")
    return batch["input_ids"], batch["attention_mask"]


def test_packing_removes_the_padding() -> None:
    ids = torch.tensor([[7, 8, 9], [5, 0, 0]])
    row, positions, segments, lengths = pack(ids, torch.tensor([[1, 1, 1], [1, 0, 0]]))
    assert row.tolist() == [[7, 8, 9, 5]]
    assert positions.tolist() == [[0, 1, 2, 0]]
    assert segments.tolist() == [0, 0, 0, 1]
    assert lengths.tolist() == [3, 1]


def test_packed_texts_do_not_influence_each_other(classifier: IntentClassifier) -> None:
    assert PackedGraph(classifier).matches(PaddedGraph(classifier), *padded(classifier))


class OwnPositions(nn.Module):
    """A body that ignores position ids and counts positions through the whole row."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.config = body, body.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None) -> object:
        return self.body(input_ids=input_ids, attention_mask=attention_mask)


def test_a_body_that_computes_positions_itself_is_detected(classifier: IntentClassifier) -> None:
    classifier.module.body = OwnPositions(classifier.module.body)
    assert not PackedGraph(classifier).matches(PaddedGraph(classifier), *padded(classifier))


def test_every_layer_norm_is_replaced_by_an_equal_decomposed_one(classifier: IntentClassifier) -> None:
    kinds = {type(part) for part in PackedGraph(classifier).modules()}
    assert DecomposedLayerNorm in kinds
    assert nn.LayerNorm not in kinds
    norm = nn.LayerNorm(16, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    hidden = 50 * torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0)) + 7
    with torch.inference_mode():
        assert torch.allclose(DecomposedLayerNorm(norm)(hidden), norm(hidden), atol=1e-5)
