"""The optimisation itself, by `transformers.Trainer`: length-grouped batches, a learning rate each for body and head.

Import it under `models.quiet_loading()`: Trainer imports PEFT and bitsandbytes.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
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
from transformers.trainer_pt_utils import LengthGroupedSampler

from bankllm.datasets import Split
from bankllm.errors import ModelError, UsageError
from bankllm.model.encoder import EncoderWithHead
from bankllm.model.torch_classifier import IntentClassifier
from bankllm.training import distributed
from bankllm.training.cached_layers import CachedPrefixCollator, FrozenPrefixModel
from bankllm.training.checkpoints import Checkpoints, TrainingState
from bankllm.training.config import TrainConfig

TRAINED_FILE = "trained.safetensors"


@dataclass(frozen=True)
class TrainerHooks:
    """What else happens during a training."""

    progress: bool
    checkpoints: Checkpoints | None
    seconds_before: float
    """Of optimisation: an interrupted training carries on counting."""
    state: Callable[[float, int], TrainingState]
    """From the seconds of optimisation and the finished epochs to what goes beside a checkpoint."""
    evaluations: int
    """How often an epoch `evaluate` is called; its time is not training time."""
    evaluate: Callable[[], float]


def fit(
    classifier: IntentClassifier,
    config: TrainConfig,
    split: Split,
    precision: str,
    hooks: TrainerHooks,
    below: list[Tensor] | None = None,
) -> tuple[float, list[dict[str, float]]]:
    """Train in place; returns the seconds of optimisation, and a row {examples, seconds, accuracy} an evaluation.

    The seconds include those before an interruption. `below` are the kept outputs of the frozen layers, a tensor a
    text (see `prefix`). Under `accelerate launch` the batch is shared out, so that the configuration stays the same.
    """
    collate: Any = DataCollatorWithPadding(classifier.tokenizer)
    rows = _tokenise(classifier, config, split)
    model: EncoderWithHead | FrozenPrefixModel = classifier.module
    with ExitStack() as stack:
        scratch = stack.enter_context(TemporaryDirectory())
        if below is not None and config.top_layers is not None:
            model = stack.enter_context(FrozenPrefixModel(classifier.module, config.top_layers))
            hooks = replace(hooks, evaluate=partial(_evaluate_whole, model, hooks.evaluate))
            collate = CachedPrefixCollator(collate)
            rows = [{**row, "below": hidden} for row, hidden in zip(rows, below, strict=True)]
        folder = hooks.checkpoints.folder if hooks.checkpoints else Path(scratch)
        arguments = _arguments(config, precision, folder, on_cpu=classifier.device == "cpu", rows=len(split))
        arguments.save_strategy = "epoch" if hooks.checkpoints else "no"
        clock = _Clock(hooks, config)
        trainer = _Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=collate,
            optimizers=(_optimizer(classifier.module, config), None),
            compute_loss_func=partial(_loss, label_smoothing=config.label_smoothing),
            callbacks=[clock, *([_ProgressBar(config.method)] if hooks.progress and distributed.is_main() else [])],
        )
        trainer.remove_callback(PrinterCallback)
        classifier.device = str(trainer.args.device)
        latest = hooks.checkpoints.latest() if hooks.checkpoints else None
        trainer.train(resume_from_checkpoint=str(latest[0]) if latest else None)
    if not torch.isfinite(classifier.module.head.weight).all():
        raise ModelError("The training diverged: the head's weights are not finite. Lower lr_head and lr_adapter.")
    classifier.module.eval()
    return clock.seconds, clock.curve


def _evaluate_whole(model: FrozenPrefixModel, evaluate: Callable[[], float]) -> float:
    with model.paused():
        return evaluate()


def _arguments(config: TrainConfig, precision: str, folder: Path, *, on_cpu: bool, rows: int) -> TrainingArguments:
    share, left = divmod(config.batch_size, distributed.world_size())
    if left or not share:
        raise UsageError(
            f"A batch of {config.batch_size} texts cannot be shared by {distributed.world_size()} processes. "
            "Set batch_size to a multiple of their number."
        )
    steps = math.ceil(rows / config.batch_size) * config.epochs
    return TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=share,
        num_train_epochs=config.epochs,
        warmup_steps=round(config.warmup * steps),
        seed=config.seed,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        use_cpu=on_cpu,
        dataloader_pin_memory=not on_cpu,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        save_total_limit=2,  # the older one goes once the newer is whole
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _tokenise(classifier: IntentClassifier, config: TrainConfig, split: Split) -> list[dict[str, Any]]:
    tokens = classifier.tokenizer(list(split.texts), truncation=True, max_length=config.max_length)
    rows = zip(tokens["input_ids"], tokens["attention_mask"], split.labels, strict=True)
    return [{"input_ids": ids, "attention_mask": mask, "labels": label} for ids, mask, label in rows]


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


class _Trainer(Trainer):
    """Batches of like lengths in random order, and checkpoints of what trains alone: not of the frozen body."""

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        # Under several processes accelerate deals whole batches out. The order comes from torch's own generator, whose
        # state a checkpoint keeps.
        batch = self.args.per_device_train_batch_size
        return _ShuffledBatches(batch, lengths=[len(row["input_ids"]) for row in rows])

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        module = self.accelerator.unwrap_model(self.model)
        state = module.state_dict() if state_dict is None else state_dict
        save_file({name: state[name].contiguous() for name in _trained(module)}, folder / TRAINED_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        module = self.accelerator.unwrap_model(self.model if model is None else model)
        module.load_state_dict(load_file(Path(resume_from_checkpoint) / TRAINED_FILE), strict=False)


def _trained(module: torch.nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


class _ShuffledBatches(LengthGroupedSampler):
    """transformers' sampler yields each group of 50 batches from long to short; here the batches are shuffled."""

    def __iter__(self) -> Iterator[int]:
        rows = list(super().__iter__())
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        whole = len(rows) // self.batch_size  # a shorter last batch stays last
        order = torch.randperm(whole).tolist()
        return iter([row for number in [*order, *range(whole, len(batches))] for row in batches[number]])


class _Clock(TrainerCallback):
    """Counts the seconds of optimisation alone, evaluates in between, and marks checkpoints as whole."""

    def __init__(self, hooks: TrainerHooks, config: TrainConfig) -> None:
        self.hooks, self.config = hooks, config
        self.seconds = hooks.seconds_before
        self.curve: list[dict[str, float]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._evaluate(state)
        self._started = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        every = state.max_steps / (self.config.epochs * max(1, self.hooks.evaluations))
        if state.global_step // every > (state.global_step - 1) // every:
            self._pause()
            self._evaluate(state)
            self._started = time.perf_counter()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._pause()
        self._started = time.perf_counter()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.hooks.checkpoints and distributed.is_main():
            self._pause()
            folder = self.hooks.checkpoints.folder / f"checkpoint-{state.global_step}"
            self.hooks.checkpoints.mark(folder, self.hooks.state(self.seconds, round(state.epoch or 0)))
            self._started = time.perf_counter()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._pause()

    def _pause(self) -> None:
        self.seconds += time.perf_counter() - self._started

    def _evaluate(self, state: TrainerState) -> None:
        if not self.hooks.evaluations:
            return
        examples = state.global_step * self.config.batch_size
        self.curve.append({"examples": examples, "seconds": self.seconds, "accuracy": self.hooks.evaluate()})


class _ProgressBar(TrainerCallback):
    """Trainer's own bar also prints its logs."""

    def __init__(self, method: str) -> None:
        self.method = method

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar = tqdm(
            total=state.max_steps, initial=state.global_step, desc=f"train {self.method}", unit="batch", leave=False
        )

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.bar.update()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.close()
