"""The gradient steps, with `transformers.Trainer`: length-grouped batches, separate learning rates for body and head.

Import this module inside `base_models.quiet_loading()`, because Trainer imports PEFT and bitsandbytes.
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
"""File in a checkpoint with the trainable weights."""


@dataclass(frozen=True)
class TrainerHooks:
    """Progress bar, checkpoints and evaluations during a training."""

    progress: bool
    """Whether to show a progress bar."""
    checkpoints: Checkpoints | None
    """Where to save the state after each epoch; None saves nothing."""
    seconds_before: float
    """Seconds of optimisation before this call: initialising the head, and the epochs before an interruption."""
    state: Callable[[float, int], TrainingState]
    """(seconds of optimisation, finished epochs) → the state to save with a checkpoint."""
    evaluations: int
    """How often per epoch `evaluate` is called. Its time does not count as optimisation."""
    evaluate: Callable[[], float]
    """Returns the accuracy of the classifier in training."""


def fit(
    classifier: IntentClassifier,
    config: TrainConfig,
    split: Split,
    precision: str,
    hooks: TrainerHooks,
    prefix_states: list[Tensor] | None = None,
) -> tuple[float, list[dict[str, float]]]:
    """Train the classifier in place. Returns (seconds of optimisation, one row per evaluation).

    A row has `examples`, `seconds` and `accuracy`. The seconds include `hooks.seconds_before`. `prefix_states` holds
    one (tokens, hidden) tensor per text (see `cached_layers`). Under `accelerate launch` each batch is divided among
    the processes, so `batch_size` means the same with any number of processes.
    Raises `UsageError` if the batch cannot be divided evenly, and `ModelError` if the training diverges.
    """
    collate: Any = DataCollatorWithPadding(classifier.tokenizer)
    rows = _tokenise(classifier, config, split)
    model: EncoderWithHead | FrozenPrefixModel = classifier.module
    with ExitStack() as stack:
        scratch = stack.enter_context(TemporaryDirectory())
        if prefix_states is not None and config.top_layers is not None:
            model = stack.enter_context(FrozenPrefixModel(classifier.module, config.top_layers))
            hooks = replace(hooks, evaluate=partial(_evaluate_whole, model, hooks.evaluate))
            collate = CachedPrefixCollator(collate)
            rows = [{**row, "prefix_states": hidden} for row, hidden in zip(rows, prefix_states, strict=True)]
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
        raise ModelError("The training diverged: the weights of the head are not finite. Lower lr_head and lr_adapter.")
    classifier.module.eval()
    return clock.seconds, clock.curve


def _evaluate_whole(model: FrozenPrefixModel, evaluate: Callable[[], float]) -> float:
    with model.paused():
        return evaluate()


def _arguments(config: TrainConfig, precision: str, folder: Path, *, on_cpu: bool, rows: int) -> TrainingArguments:
    share, left = divmod(config.batch_size, distributed.world_size())
    if left or not share:
        raise UsageError(
            f"A batch of {config.batch_size} texts cannot be divided evenly among {distributed.world_size()} "
            f"processes. Set batch_size to a multiple of {distributed.world_size()}."
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
        save_total_limit=2,  # Trainer deletes the older checkpoint after the newer one is complete
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
    """Trainer with batches of similar lengths in random order. Its checkpoints hold only the trainable weights."""

    def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        # With several processes, accelerate distributes whole batches. The order comes from torch's global random
        # generator, whose state is part of a checkpoint.
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
    """Length-grouped batches in random order. The sampler of transformers sorts each group of 50 batches by length."""

    def __iter__(self) -> Iterator[int]:
        rows = list(super().__iter__())
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]
        full = len(rows) // self.batch_size  # an incomplete last batch stays last
        order = torch.randperm(full).tolist()
        return iter([row for number in [*order, *range(full, len(batches))] for row in batches[number]])


class _Clock(TrainerCallback):
    """Counts the seconds of optimisation, runs the evaluations, and marks checkpoints as complete.

    The time of evaluations does not count as optimisation.
    """

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
    """A progress bar that prints nothing else. Trainer's own bar also prints logs."""

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
