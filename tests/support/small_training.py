"""Small data and models, so that a training takes about a second."""

from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.trainers import WordLevelTrainer
from transformers import LlamaModel, PreTrainedTokenizerFast

from bankllm.datasets import Dataset, Split, load
from bankllm.training.train import TrainResult
from tests.support.tiny_models import tiny_llama


def shortest(split: Split, per_label: int) -> Split:
    rows = sorted(zip(split.texts, split.labels, strict=True), key=lambda row: len(row[0]))
    kept = [row for label in sorted(set(split.labels)) for row in [r for r in rows if r[1] == label][:per_label]]
    return Split(tuple(text for text, _ in kept), tuple(label for _, label in kept))


def confidences(result: TrainResult) -> list[float]:
    return [float(str(row["confidence"])) for row in result.predictions]


def tiny_decoder(folder: Path, texts: tuple[str, ...], layers: int = 1) -> Path:
    words = Tokenizer(WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.train_from_iterator(texts, WordLevelTrainer(special_tokens=["<unk>", "</s>"], show_progress=False))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="</s>")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    LlamaModel(tiny_llama(tokenizer, layers)).save_pretrained(folder)
    return folder


def three_intents(train: int, test: int = 6) -> Dataset:
    """Three intents of Teller77 with their `train` and `test` shortest texts per intent."""
    whole = load("teller77").first_intents(3)
    return replace(whole, train=shortest(whole.train, train), test=shortest(whole.test, test))
