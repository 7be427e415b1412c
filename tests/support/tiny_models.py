"""Small causal language models that generate one fixed text for every prompt, saved as regular model folders."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bankllm.assistant.facts import Facts, Request
from bankllm.assistant.wording.prompts import INSTRUCTIONS, make_prompt

SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tiny_llama(tokenizer: PreTrainedTokenizerFast, layers: int = 1, **options: Any) -> LlamaConfig:
    """Configuration of a Llama with hidden size 32."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 2}
    return LlamaConfig(vocab_size=len(tokenizer), **sizes, **options)


def save_model_that_says(text: str, folder: Path) -> Path:
    """Train a one-layer Llama (hidden size 32) to generate `text` for every prompt, and save it with its tokenizer.

    Each word of `text` must be unique.
    """
    tokenizer = _tokenizer([text, INSTRUCTIONS])
    torch.manual_seed(0)
    ends = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    model = LlamaForCausalLM(tiny_llama(tokenizer, max_position_embeddings=2048, **ends))
    answer = tokenizer(text + tokenizer.eos_token)["input_ids"]
    assert len(set(answer)) == len(answer), "each word of the text must be unique, so that the model learns it quickly"
    facts = Facts("b", ("About “A”: b",))
    prompts = [make_prompt(Request("x " * n, "CUST001", "a"), facts, remote=False) for n in (1, 30)]
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(60):
        messages = prompts[step % 2].messages
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        ids = torch.tensor([prompt + answer])
        labels = ids.clone()
        labels[:, : len(prompt)] = -100
        optimiser.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimiser.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE, which can encode every text. The words of `texts` are single tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts * 5, trainers.BpeTrainer(vocab_size=4000, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=SPECIAL[0], eos_token=SPECIAL[1], chat_template=TEMPLATE
    )
