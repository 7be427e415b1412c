"""Fine-tune a language model with TRL's `SFTTrainer` and PEFT.

    tuned = fine_tune(LanguageModelConfig(rank=8), read(Path("mine.jsonl")), Path("adapters/mine"))

`Trainer` replaces the padded batches of TRL by prefix trees, and computes logits only for the tokens that are learnt.
Both are exact.
"""

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from tqdm.auto import tqdm

from bankllm.errors import DataError, ModelError, RunError, explained
from bankllm.model import base_models
from bankllm.model.denormals import flush_denormals
from bankllm.model.generation.streams import chat_tokenizer
from bankllm.model.quiet_loading import quiet_loading
from bankllm.model.torch_classifier import load_body
from bankllm.training.checkpoint import Checkpoints
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model import adapter_folder, prefix_tree
from bankllm.training.language_model.token_rows import Example, TokenRow, check_examples, token_rows
from bankllm.training.memory import PeakMemory
from bankllm.training.methods import METHODS
from bankllm.training.model_card import check_output
from bankllm.training.train import count_weights

with quiet_loading():
    from datasets import Dataset
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        PrinterCallback,
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

IGNORED = -100
"""Label of a token that does not count in the loss, as TRL marks it."""
LOG_STEPS = 2
SAVE_STEPS = 20


@dataclass(frozen=True)
class FineTuned:
    model: Any
    """The adapted model, a `PeftModel`."""
    tokenizer: Any
    config: LanguageModelConfig
    costs: dict[str, Any]
    """The columns of `raw/cost.csv` of the artifact, see `adapter_folder.COSTS`."""
    curve: list[dict[str, object]]
    """Columns `step`, `loss` (mean of the last `LOG_STEPS` steps) and `validation_loss` (empty where not measured)."""
    too_long: list[int]
    """Positions of the examples that were left out because they have more than `max_length` tokens."""


class Trainer(SFTTrainer):
    """`SFTTrainer` on prefix trees."""

    def __init__(self, *args: Any, counts: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counts = counts
        """`tokens` of the rows, and `computed_tokens` of their trees, in all steps."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        tree: prefix_tree.Tree = inputs["tree"].to(model.device)
        with self.accelerator.autocast():
            states = prefix_tree.states_before(model.get_base_model(), tree)
            words = functional.linear(states, model.get_output_embeddings().weight.to(states.dtype))
            loss = functional.cross_entropy(words.float(), tree.labels)
        if model.training:
            self.counts["tokens"] += tree.tokens
            self.counts["computed_tokens"] += tree.input_ids.numel()
        return (loss, {}) if kwargs.get("return_outputs") else loss


def fine_tune(
    config: LanguageModelConfig,
    examples: Sequence[Example],
    output: Path | None = None,
    *,
    source: str = "tellerchat",
    validation: Sequence[Example] = (),
    evaluations: int = 0,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> FineTuned:
    """Train an adapter on `examples`.

    - `output`: folder for the artifact; None saves nothing. `source` names the examples in it.
    - `validation`: examples whose loss is computed before the training and `evaluations` times during it.
    - `checkpoint`: folder for the state after every `SAVE_STEPS` steps. A call with the same folder, configuration and
      examples resumes from it. Delete the folder after the result has been saved.

    Raises `DataError` if no example can be used or one is invalid, `UsageError` if the checkpoint belongs to another
    training or the adapter to continue has another rank, `NotMeasured` if QLoRA cannot run on this machine,
    `ModelError` if a model cannot be used or the training diverges, and `RunError` if a file cannot be written.
    """
    device, method = base_models.device(), METHODS.get(config.method)
    check_examples(examples, source)
    if output is not None:
        check_output(output)
    flush_denormals()
    method.check(device)
    base = base_models.resolve(config.base_model)
    tokenizer = chat_tokenizer(base_models.ready_to_load(base), base.name)
    (rows, too_long), held_out = (token_rows(part, tokenizer, config.max_length) for part in (examples, validation))
    if not rows:
        raise DataError(f"{source} has no example of at most {config.max_length} tokens. Raise max_length.")
    made = adapter_folder.made_from(config, examples, source, base)
    saved = Checkpoints(checkpoint, made) if checkpoint else None
    with ExitStack() as stack:
        memory = stack.enter_context(PeakMemory(device))
        model = adapted(config, base, device)
        stack.enter_context(prefix_tree.used_in(model.get_base_model()))
        folder = checkpoint or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bankllm-")))
        steps = math.ceil(len(rows) / config.batch_size) * config.epochs
        steps = min(steps, config.max_steps or steps)
        watch = _Watch(saved, memory, stack.enter_context(tqdm(total=steps, desc="train", disable=not progress)))
        with quiet_loading():
            trainer = Trainer(
                model,
                _arguments(config, folder, device, steps, evaluations if validation else 0, saved is not None),
                data_collator=_collate,
                train_dataset=_dataset(rows),
                eval_dataset=_dataset(held_out.rows) if validation else None,
                processing_class=tokenizer,
                callbacks=[watch],
                counts=watch.state,
            )
            trainer.remove_callback(PrinterCallback)
            for weights in model.parameters():
                if weights.requires_grad:
                    weights.data = weights.data.float()  # TRL made those of a 4-bit model bf16
            trained = [weights for weights in model.parameters() if weights.requires_grad]
            before = [weights.detach().clone() for weights in trained] if config.average else []
            advice = "Free space on the disk, or choose another folder, and start again: the training resumes."
            with explained(RunError, f"The checkpoint in {folder} cannot be written", advice, OSError):
                trainer.train(resume_from_checkpoint=str(saved.newest) if saved and saved.newest else None)
        watch.note_peak()
    model.eval()
    for weights, start in zip(trained, before, strict=False):
        weights.data.lerp_(start, 0.5)
    if not all(torch.isfinite(weights).all() for weights in trained):
        raise ModelError("The training diverged: weights are not finite. Lower learning_rate.")
    costs = {
        "device": device,
        "precision": base_models.precision(device),
        **watch.state,
        "examples": len(rows),
        "too_long": len(too_long),
        "trainable_parameters": sum(map(count_weights, trained)),
        "total_parameters": sum(map(count_weights, model.parameters())),
    }
    tuned = FineTuned(model, tokenizer, config, costs, _curve(trainer.state.log_history), too_long)
    if output is not None:
        adapter_folder.write(model, costs, tuned.curve, output, made)
    return tuned


def adapted(config: LanguageModelConfig, base: base_models.BaseModel, device: str) -> Any:
    """The base model on `device` with LoRA matrices beside all linear layers except the output layer.

    The matrices are new, or those of the adapter that the training continues.
    """
    body = load_body(base, quantised=METHODS.get(config.method).quantised, device=device, kind=AutoModelForCausalLM)
    torch.manual_seed(config.seed)
    if config.start is not None:
        with quiet_loading():
            return PeftModel.from_pretrained(body, str(config.start), is_trainable=True)
    lora = LoraConfig(task_type="CAUSAL_LM", r=config.rank, lora_alpha=config.scale, target_modules="all-linear")
    with quiet_loading():
        return get_peft_model(body, lora)


class _Watch(TrainerCallback):
    """Counts seconds and tokens, shows the progress, and marks complete checkpoints."""

    def __init__(self, saved: Checkpoints | None, memory: PeakMemory, bar: Any) -> None:
        self.saved, self.memory, self.bar = saved, memory, bar
        self.state = {"seconds": 0.0, "tokens": 0, "computed_tokens": 0, "peak_memory_bytes": 0}
        self.state |= saved.state if saved else {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.bar.update(state.global_step)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.start = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.state["seconds"] += time.perf_counter() - self.start
        self.bar.update()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.note_peak()
        if self.saved:
            self.saved.mark(Path(args.output_dir or "") / f"checkpoint-{state.global_step}", self.state)

    def note_peak(self) -> None:
        self.state["peak_memory_bytes"] = max(self.memory.peak(), self.state["peak_memory_bytes"])


def _arguments(
    config: LanguageModelConfig, folder: Path, device: str, steps: int, evaluations: int, save: bool
) -> SFTConfig:
    precision = base_models.precision(device)
    return SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        max_steps=steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(0.03 * steps),
        weight_decay=0.0,
        seed=config.seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device == "cpu",
        gradient_checkpointing=False,  # it computes every activation twice
        eval_strategy="steps" if evaluations else "no",
        eval_steps=math.ceil(steps / evaluations) if evaluations else None,
        eval_on_start=bool(evaluations),
        save_strategy="steps" if save else "no",
        save_steps=SAVE_STEPS,
        save_total_limit=2,
        logging_steps=LOG_STEPS,
        logging_first_step=True,
        report_to="none",
        disable_tqdm=True,
        prediction_loss_only=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        dataset_kwargs={"skip_prepare_dataset": True},
    )


def _dataset(rows: Sequence[TokenRow]) -> Dataset:
    """The columns of TRL for prepared data."""
    labels = [[IGNORED] * len(row.prompt) + list(row.completion) for row in rows]
    return Dataset.from_dict({"input_ids": [[*row.prompt, *row.completion] for row in rows], "labels": labels})


def _collate(batch: Sequence[Mapping[str, list[int]]]) -> dict[str, Any]:
    prompts = [row["labels"].count(IGNORED) for row in batch]
    pairs = zip((row["input_ids"] for row in batch), prompts, strict=True)
    return {"tree": prefix_tree.pack([TokenRow(tuple(ids[:prompt]), tuple(ids[prompt:])) for ids, prompt in pairs])}


def _curve(log: Sequence[Mapping[str, float]]) -> list[dict[str, object]]:
    rows: dict[float, dict[str, object]] = {}
    for entry in log:
        row = rows.setdefault(entry["step"], {"step": entry["step"], "loss": "", "validation_loss": ""})
        row |= {name: entry[key] for key, name in (("loss", "loss"), ("eval_loss", "validation_loss")) if key in entry}
    return list(rows.values())
