"""Share of the machine's fp32 matrix-multiplication peak that one LoRA r=8 pass reaches, after each optimisation.

python benchmarks/gemm_share.py [--texts 1500]

Floating-point operations are torch's count (FlopCounterMode) of forward and backward, without those for padding. The
peak is the best of several 2048 × 2048 products. The last line is `train()`, with Trainer and optimiser.
"""

import argparse
import random
import time
from dataclasses import replace

import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from bankllm import datasets
from bankllm.datasets import Dataset, Split
from bankllm.training.config import TrainConfig
from bankllm.training.train import train, untrained

STEPS = {
    "random batches of 32, dropout 0.1": {"batch": 32, "dropout": 0.1, "grouped": False},
    "+ batches of similar lengths": {"batch": 32, "dropout": 0.1, "grouped": True},
    "+ no dropout (flash attention, no masks to draw)": {"batch": 32, "dropout": 0.0, "grouped": True},
    "+ batches of 64": {"batch": 64, "dropout": 0.0, "grouped": True},
}


def peak_gflops(size: int = 2048, rounds: int = 12) -> float:
    a, b = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9


def batches(lengths: list[int], size: int, grouped: bool) -> list[list[int]]:
    order = list(range(len(lengths)))
    random.Random(0).shuffle(order)
    if grouped:
        order.sort(key=lengths.__getitem__)
    return [order[start : start + size] for start in range(0, len(order), size)]


def measure(data: Dataset, *, batch: int, dropout: float, grouped: bool) -> tuple[float, float, float]:
    """Return seconds, FLOPs of real tokens and the share of padding tokens for one pass over the training texts."""
    config = TrainConfig(dropout=dropout)
    classifier = untrained(config, data, "cpu")
    tokenizer, module = classifier.tokenizer, classifier.module.train()
    tokens = tokenizer(list(data.train.texts), truncation=True, max_length=config.max_length)["input_ids"]
    rows = batches([len(ids) for ids in tokens], batch, grouped)
    padded = [tokenizer.pad({"input_ids": [tokens[i] for i in row]}, return_tensors="pt") for row in rows]
    labels = [torch.tensor([data.train.labels[i] for i in row]) for row in rows]

    def step(inputs, wanted):
        functional.cross_entropy(module(**inputs).logits, wanted).backward()
        module.zero_grad()

    step(padded[0], labels[0])
    began = time.perf_counter()
    for inputs, wanted in zip(padded, labels, strict=True):
        step(inputs, wanted)
    seconds = time.perf_counter() - began
    with FlopCounterMode(display=False) as counter:
        for inputs, wanted in zip(padded, labels, strict=True):
            step(inputs, wanted)
    real = sum(int(inputs["attention_mask"].sum()) for inputs in padded)
    filled = real / sum(inputs["attention_mask"].numel() for inputs in padded)
    return seconds, counter.get_total_flops() * filled, 1 - filled


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--texts", type=int, default=1500)
    options.add_argument("--dataset", default="auto")
    chosen = options.parse_args()
    whole = datasets.load(chosen.dataset)
    rows = random.Random(0).sample(range(len(whole.train)), min(chosen.texts, len(whole.train)))
    texts, labels = whole.train.texts, whole.train.labels
    rows += [labels.index(label) for label in set(labels) - {labels[i] for i in rows}]  # train() needs every label
    selected = replace(whole, train=Split(tuple(texts[i] for i in rows), tuple(labels[i] for i in rows)))
    peak = peak_gflops()
    print(f"peak {peak:.0f} GFLOP/s on {torch.get_num_threads()} threads; {len(selected.train)} texts of {whole.name}")
    first = None
    for name, settings in STEPS.items():
        seconds, flops, padding = measure(selected, **settings)
        first = first or seconds
        print(
            f"{name:<50} {seconds:6.1f} s  padding {padding:4.0%}  {flops / seconds / 1e9 / peak:4.0%} of the peak"
            f"  {first / seconds:.2f} × the first"
        )
    seconds = train(TrainConfig(epochs=1), selected, progress=False).costs.seconds
    print(f"{'train(), with Trainer and optimiser':<50} {seconds:6.1f} s  {first / seconds:.2f} × the first")


if __name__ == "__main__":
    main()
