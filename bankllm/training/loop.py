"""The optimisation itself, by `transformers.Trainer`: length-grouped batches, a learning rate each for body and head.

Import it under `models.quiet_loading()`: Trainer imports PEFT and bitsandbytes.
"""

import math
import time
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from bankllm.classifier import EncoderWithHead, IntentClassifier
from bankllm.datasets import Split
from bankllm.errors import ModelError
from bankllm.training.config import TrainConfig


def fit(classifier: IntentClassifier, config: TrainConfig, split: Split, precision: str, progress: bool) -> float:
    """Train in place with `transformers.Trainer`; returns the seconds it took."""
    module, tokenizer, on_cpu = classifier.module, classifier.tokenizer, classifier.device == "cpu"
    tokens = tokenizer(list(split.texts), truncation=True, max_length=config.max_length)
    rows = zip(tokens["input_ids"], tokens["attention_mask"], split.labels, strict=True)
    steps = math.ceil(len(split) / config.batch_size) * config.epochs
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=config.batch_size,
            num_train_epochs=config.epochs,
            warmup_steps=round(config.warmup * steps),
            seed=config.seed,
            fp16=precision == "fp16",
            bf16=precision == "bf16",
            use_cpu=on_cpu,
            dataloader_pin_memory=not on_cpu,
            remove_unused_columns=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **_group_by_length(),
        )
        trainer = Trainer(
            model=module,
            args=arguments,
            train_dataset=[{"input_ids": i, "attention_mask": m, "labels": y} for i, m, y in rows],
            data_collator=DataCollatorWithPadding(tokenizer),
            optimizers=(_optimizer(module, config), None),
            compute_loss_func=partial(_loss, label_smoothing=config.label_smoothing),
            callbacks=[_ProgressBar(config.method)] if progress else [],
        )
        trainer.remove_callback(PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    if not torch.isfinite(module.head.weight).all():
        raise ModelError("The training diverged: the head's weights are not finite. Lower lr_head and lr_adapter.")
    module.eval()
    return seconds


def _group_by_length() -> dict[str, Any]:
    """The option's name changed in transformers 5."""
    if "train_sampling_strategy" in TrainingArguments.__dataclass_fields__:
        return {"train_sampling_strategy": "group_by_length"}
    return {"group_by_length": True}


def _optimizer(module: EncoderWithHead, config: TrainConfig) -> torch.optim.Optimizer:
    trained = [parameter for parameter in module.body.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": trained, "lr": config.lr_adapter if config.adapts else config.lr_body},
            {"params": module.head.parameters(), "lr": config.lr_head},
        ],
        weight_decay=0.0,
    )


def _loss(outputs: Any, labels: Tensor, num_items_in_batch: object = None, *, label_smoothing: float) -> Tensor:
    return functional.cross_entropy(outputs.logits, labels, label_smoothing=label_smoothing)


class _ProgressBar(TrainerCallback):
    """Trainer's own bar also prints its logs."""

    def __init__(self, method: str) -> None:
        self.method = method

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar = tqdm(total=state.max_steps, desc=f"train {self.method}", unit="batch", leave=False)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.bar.update()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.close()
