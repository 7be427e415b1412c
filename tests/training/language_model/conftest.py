"""A language model that fits a test: two layers with random weights, and a tokenizer of bytes."""

from pathlib import Path
from typing import Any

import pytest

from bankllm.datasets.tellerchat import Understand, Word

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a base model."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = [*pre_tokenizers.ByteLevel.alphabet(), "<|im_start|>", "<|im_end|>"]
    letters_only = Tokenizer(models.BPE({letter: id for id, letter in enumerate(sorted(letters))}, merges=[]))
    letters_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters_only.decoder = decoders.ByteLevel()
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=letters_only,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("tiny-language-model")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def examples() -> list[Understand | Word]:
    calls = [{"tool": "spending", "merchant": "Tesco", "period": "in May"}]
    understand = [
        Understand(messages=(f"{word} did I spend at Tesco in May",), calls=tuple(calls)) for word in ("what", "how")
    ]
    balance = Understand(messages=("hi", "and my balance"), calls=({"tool": "balance"},))
    word = Word(message="and my balance", facts=("Balance £12.50",), reply="It is £12.50.", required=("£12.50",))
    return [*understand, balance, word, Understand(messages=("blah",), calls=())]
