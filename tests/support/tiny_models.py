"""The configuration of a small causal language model."""

from typing import Any

from transformers import LlamaConfig, PreTrainedTokenizerFast


def tiny_llama(tokenizer: PreTrainedTokenizerFast, layers: int = 1, **options: Any) -> LlamaConfig:
    """Configuration of a Llama with hidden size 32."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 2}
    return LlamaConfig(vocab_size=len(tokenizer), **sizes, **options)
