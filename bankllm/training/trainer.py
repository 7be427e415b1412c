"""The gradient steps: a plain loop in torch over batches of texts of similar length."""

import math
import time
from collections.abc import Callable
from typing import Any, Self

import torch
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from bankllm.datasets import Split
from bankllm.errors import ModelError
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training.config import TrainConfig
from bankllm.training.methods import METHODS

GROUP = 50
"""Batches of texts that are sorted by length together: enough for little padding, few enough for random batches."""
MAX_GRADIENT_NORM = 1.0


class Stopwatch:
    """Sums the seconds that are spent inside its `with` blocks."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def __enter__(self) -> Self:
        self._start = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self._start


def fit(
    classifier: IntentClassifier,
    config: TrainConfig,
    split: Split,
    precision: str,
    clock: Stopwatch,
    *,
    resume: dict[str, Any],
    save: Callable[[dict[str, Any]], None] | None,
    evaluate: Callable[[int], None],
    evaluations: int,
    progress: bool,
) -> None:
    """Train the body and the linear head of the classifier in place. `clock` measures the gradient steps only.

    - `save` is called with the state after each epoch. `resume` is such a state, or empty.
    - `evaluate` is called `evaluations` times per epoch, and once before the first step, with the number of texts seen.

    Raises `ModelError` if the training diverges.
    """
    method, module, device = (METHODS.get(config.method), classifier.module, torch.device(classifier.device))
    tokens = classifier.tokenizer(list(split.texts), truncation=True, max_length=config.max_length)["input_ids"]
    labels = torch.tensor(split.labels)
    trained = {name: weights for name, weights in module.named_parameters() if weights.requires_grad}
    body = [weights for weights in module.body.parameters() if weights.requires_grad]
    groups = [
        {"params": body, "lr": method.learning_rate(config)},
        {"params": module.head.parameters(), "lr": config.lr_head},
    ]
    steps = math.ceil(len(split) / config.batch_size)
    total = steps * config.epochs
    total = min(total, config.max_steps or total)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1 - done / total)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    autocast = torch.autocast(device.type, half, enabled=precision != "fp32")
    stateful: dict[str, Any] = {"optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    if resume:
        module.load_state_dict(resume["weights"], strict=False)
        for name, part in stateful.items():
            part.load_state_dict(resume[name])

    def step(rows: list[int]) -> None:
        inputs = classifier.tokenizer.pad({"input_ids": [tokens[i] for i in rows]}, return_tensors="pt")
        with autocast:
            loss = method.loss(module(**inputs.to(device)), labels[rows].to(device), config)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(trained.values(), MAX_GRADIENT_NORM)
        scaler.step(optimizer)
        scaler.update()
        schedule.step()
        optimizer.zero_grad()

    finished = resume.get("epochs", 0)
    if evaluations:
        evaluate(finished * steps * config.batch_size)
    every = min(steps, total) / max(1, evaluations)
    bar: dict[str, Any] = {"desc": f"train {config.method}", "unit": "batch", "leave": False, "disable": not progress}
    with tqdm(total=total, initial=finished * steps, **bar) as shown:
        for epoch in range(finished, config.epochs):
            torch.manual_seed(config.seed * 1_000_003 + epoch)  # so a checkpoint needs no state of a random generator
            module.train()
            batches = length_grouped_batches([len(ids) for ids in tokens], config.batch_size)
            for number, batch in enumerate(batches[: max(0, total - epoch * steps)], start=1):
                with clock:
                    step(batch)
                shown.update()
                if evaluations and number // every > (number - 1) // every:
                    evaluate((epoch * steps + number) * config.batch_size)
            with clock:  # reading a weight waits for the last step of a GPU
                finite = torch.isfinite(module.head.weight).all()
            if not finite:
                raise ModelError(
                    "The training diverged: the weights of the head are not finite. Lower lr_head and lr_adapter."
                )
            if save:
                parts = {name: part.state_dict() for name, part in stateful.items()}
                save({"epochs": epoch + 1, "weights": {name: w.detach() for name, w in trained.items()}, **parts})


def length_grouped_batches(lengths: list[int], size: int) -> list[list[int]]:
    """Positions of texts, in random batches of similar lengths. An incomplete batch comes last."""
    group = size * max(1, min(len(lengths) // (4 * size), GROUP))
    shuffled = torch.randperm(len(lengths)).tolist()
    rows: list[int] = []
    for start in range(0, len(shuffled), group):
        rows += sorted(shuffled[start : start + group], key=lambda i: -lengths[i])
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    full = len(rows) // size
    return [batches[number] for number in [*torch.randperm(full).tolist(), *range(full, len(batches))]]
