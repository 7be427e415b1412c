"""Which layers get a LoRA adapter, on real architectures with random weights (no download)."""

import pytest
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, LlamaConfig, LlamaModel

from bankllm.errors import UsageError
from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS
from bankllm.training.train import train

SIZES = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def bert() -> nn.Module:
    return BertModel(BertConfig(**SIZES))


def distilbert() -> nn.Module:
    return DistilBertModel(DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32))


def prepare(body: nn.Module, rank: int = 2, **choices: object) -> nn.Module:
    return METHODS.get("lora").prepare(body.requires_grad_(False), TrainConfig(rank=rank, **choices))


def adapted_layers(body: nn.Module, **choices: object) -> set[str]:
    model = prepare(body, **choices)
    return {name.split(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_modules() if ".lora_A." in name}


def test_the_default_targets_are_query_and_value_of_each_architecture():
    assert adapted_layers(bert()) == {"query", "value"}
    assert adapted_layers(LlamaModel(LlamaConfig(**SIZES))) == {"q_proj", "v_proj"}


def test_an_architecture_without_default_targets_lists_its_layers():
    with pytest.raises(UsageError, match=r"no linear layer that PEFT adapts by default\. It has: k_lin, lin1, .*v_lin"):
        adapted_layers(distilbert())
    assert adapted_layers(distilbert(), target_modules=("q_lin",)) == {"q_lin"}


def test_the_default_alpha_gives_a_scale_of_two():
    for alpha, scale in ((None, 2), (6, 3)):
        layers = [module for module in prepare(bert(), alpha=alpha).modules() if isinstance(module, LoraLayer)]
        assert {layer.scaling["default"] for layer in layers} == {scale}


def test_all_linear_does_not_adapt_the_unused_pooler():
    model = prepare(bert(), target_modules="all-linear")
    adapted = [name for name, _ in model.named_modules() if ".lora_A." in name]
    assert any("intermediate.dense" in name for name in adapted)
    assert not any("pooler" in name for name in adapted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 385}, r"Rank 385 is above the width of .*\(384\).*Set rank to a number from 1"),
        ({"target_modules": ("query", "q_proj")}, r"no linear layer named q_proj\. It has: dense, key, query, value"),
        ({"top_layers": 7}, "top_layers=7, but the model has 6 layers"),
    ],
)
def test_a_configuration_that_does_not_fit_the_model_fails_before_any_text_is_embedded(
    options, message, data, tmp_path, monkeypatch
):
    monkeypatch.setattr("bankllm.training.cached_layers.embed_frozen", None)  # calling it would fail with another error
    with pytest.raises(UsageError, match=message):
        train(TrainConfig(**options), data, tmp_path / "adapter", progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("top_layers", "layers"), [("half", 1), (None, 2)])
def test_only_the_adapter_is_trainable_and_has_the_expected_size(top_layers, layers):
    model = prepare(bert(), top_layers=top_layers)
    trainable = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
    assert trainable == layers * 2 * (2 * 16 + 16 * 2)  # layers × targets × (A + B)
    assert model.peft_config["default"].base_model_name_or_path == "sentence-transformers/all-MiniLM-L6-v2"
