"""Which layers get a LoRA adapter, on real architectures with random weights (no download)."""

import pytest
from torch import nn
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, LlamaConfig, LlamaModel

from bankllm.errors import UsageError
from bankllm.training.adapters import attach_adapter, count_parameters
from bankllm.training.config import TrainConfig


def bert() -> nn.Module:
    return BertModel(
        BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    )


def llama() -> nn.Module:
    return LlamaModel(
        LlamaConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=32,
        )
    )


def distilbert() -> nn.Module:
    return DistilBertModel(DistilBertConfig(vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32))


def adapted_layers(body: nn.Module, **choices: object) -> set[str]:
    model = attach_adapter(body, TrainConfig(rank=2, **choices), "some/base")
    return {name.split(".lora_A")[0].rpartition(".")[2] for name, _ in model.named_modules() if ".lora_A." in name}


def test_the_default_targets_are_query_and_value_of_each_architecture():
    assert adapted_layers(bert()) == {"query", "value"}
    assert adapted_layers(llama()) == {"q_proj", "v_proj"}


def test_an_architecture_without_default_targets_lists_its_layers():
    with pytest.raises(UsageError, match=r"no linear layer that PEFT adapts by default\. It has: k_lin, lin1, .*v_lin"):
        adapted_layers(distilbert())
    assert adapted_layers(distilbert(), target_modules=("q_lin",)) == {"q_lin"}


def test_all_linear_does_not_adapt_the_unused_pooler():
    model = attach_adapter(bert(), TrainConfig(rank=2, target_modules="all-linear"), "some/base")
    adapted = [name for name, _ in model.named_modules() if ".lora_A." in name]
    assert any("intermediate.dense" in name for name in adapted)
    assert not any("pooler" in name for name in adapted)


def test_an_unknown_target_is_an_error_even_with_a_known_one():
    with pytest.raises(UsageError, match=r"no linear layer named q_proj\. It has: dense, key, query, value"):
        adapted_layers(bert(), target_modules=("query", "q_proj"))


def test_a_rank_above_the_width_is_refused():
    with pytest.raises(UsageError, match=r"Rank 17 is above the width of .*query \(16\).*Set rank to a number from 1"):
        attach_adapter(bert(), TrainConfig(rank=17), "some/base")


@pytest.mark.parametrize(("top_layers", "layers"), [("half", 1), (None, 2)])
def test_only_the_adapter_is_trainable_and_has_the_expected_size(top_layers, layers):
    model = attach_adapter(bert(), TrainConfig(rank=2, top_layers=top_layers), "some/base")
    trainable, total = count_parameters(model)
    assert trainable == layers * 2 * (2 * 16 + 16 * 2)  # layers × targets × (A + B)
    assert total == trainable + sum(p.numel() for p in bert().parameters())
    assert model.peft_config["default"].base_model_name_or_path == "some/base"
