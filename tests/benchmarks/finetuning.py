"""Time to a test accuracy on full Banking77: the textbook LoRA recipe and ours, side by side in one process.

python tests/benchmarks/finetuning.py                 # half an hour on two cores
python tests/benchmarks/finetuning.py --passes 2      # a shorter look

Textbook: AutoModelForSequenceClassification, PEFT's and Trainer's defaults, random head, batch 32; of three learning
rates the one that is best after a pass goes on, until it is there or `--give-up` times slower. Evaluation costs no
time in either; ours includes embedding the texts.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bankllm import datasets
from bankllm.datasets import Dataset
from bankllm.model import base_models

with base_models.quiet_loading():
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )
    from transformers.utils import logging as transformers_logging

    from bankllm.training import trainer  # noqa: F401  imported before any clock runs

from bankllm.training.config import TrainConfig
from bankllm.training.train import train

transformers_logging.set_verbosity_error()
LEARNING_RATES = (5e-4, 1e-3, 2e-3)
Point = tuple[float, float]
"""Seconds of training so far, test accuracy."""


class Textbook(TrainerCallback):
    """What a tutorial shows, stopped after some passes; `points` has one a pass."""

    def __init__(self, data: Dataset, learning_rate: float, passes: int, folder: Path) -> None:
        base = base_models.resolve("minilm")
        tokenizer = AutoTokenizer.from_pretrained(base.location)
        with base_models.quiet_loading():
            plain = AutoModelForSequenceClassification.from_pretrained(base.location, num_labels=len(data.label_names))
            model = get_peft_model(plain, LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=["query", "value"]))
        tokens = tokenizer(list(data.train.texts), truncation=True)
        rows = [
            {"input_ids": ids, "attention_mask": mask, "labels": label}
            for ids, mask, label in zip(tokens["input_ids"], tokens["attention_mask"], data.train.labels, strict=True)
        ]
        test = tokenizer(list(data.test.texts), truncation=True)
        questions = [
            {"input_ids": ids, "attention_mask": mask}
            for ids, mask in zip(test["input_ids"], test["attention_mask"], strict=True)
        ]
        self.points: list[Point] = []
        self._stop_after = 1
        arguments = TrainingArguments(
            output_dir=str(folder),
            learning_rate=learning_rate,
            per_device_train_batch_size=32,
            per_device_eval_batch_size=64,
            num_train_epochs=passes,
            save_strategy="epoch",
            save_total_limit=1,
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=base_models.device() == "cpu",
        )
        self._trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[self],
        )
        self._trainer.remove_callback(PrinterCallback)
        self._questions, self._labels = questions, np.array(data.test.labels)

    def go_on(self, until_pass: int, enough: float, too_long: float = float("inf")) -> None:
        """Train up to a pass of the whole schedule, or until the accuracy is enough or too many seconds went by."""
        self._stop_after, self._enough, self._too_long = until_pass, enough, too_long
        self._trainer.train(resume_from_checkpoint=bool(self.points))

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._began = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        before = self.points[-1][0] if self.points else 0.0
        seconds = before + time.perf_counter() - self._began
        answers = self._trainer.predict(self._questions).predictions.argmax(axis=1)
        self.points.append((seconds, float(np.mean(answers == self._labels))))
        self._trainer.model.train()
        show(f"textbook, learning rate {args.learning_rate:g}, pass {len(self.points)}", self.points[-1])
        if len(self.points) >= self._stop_after or self.points[-1][1] >= self._enough or seconds >= self._too_long:
            control.should_training_stop = True


def ours(data: Dataset, evaluations: int) -> list[Point]:
    """`TrainConfig`'s defaults; the first point is the start of the head."""
    result = train(TrainConfig(), data, progress=False, curve=evaluations)
    points = [(result.costs.encode_seconds + row["seconds"], row["accuracy"]) for row in result.curve]
    for row, point in zip(result.curve, points, strict=True):
        show(f"ours, {row['examples'] / len(data.train):.2f} passes", point)
    return points


def show(what: str, point: Point) -> None:
    print(f"{what:<45} {point[0]:8.1f} s   {point[1]:.2%}", flush=True)


def reached(points: list[Point], accuracy: float) -> float | None:
    return next((seconds for seconds, found in points if found >= accuracy), None)


def main(say: Callable[[str], None] = print) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--accuracy", type=float, default=0.921, help="the goal on the test split")
    options.add_argument("--passes", type=int, default=8, help="the textbook's schedule")
    options.add_argument("--give-up", type=float, default=12, help="stop the textbook at so many times our time")
    options.add_argument("--dataset", default="banking77")
    options.add_argument("--intents", type=int, default=None, help="only the first so many")
    chosen = options.parse_args()
    data = datasets.load(chosen.dataset).first_intents(chosen.intents)
    say(data.describe())
    mine = ours(data, evaluations=4)
    fast, trained = reached(mine, chosen.accuracy), reached(mine[1:], chosen.accuracy)
    if fast is None or trained is None:
        say(f"Ours does not reach {chosen.accuracy:.2%}: it ends at {mine[-1][1]:.2%}.")
        raise SystemExit(1)
    with TemporaryDirectory() as folder:
        textbooks = {rate: Textbook(data, rate, chosen.passes, Path(folder) / f"{rate:g}") for rate in LEARNING_RATES}
        for textbook in textbooks.values():
            textbook.go_on(1, chosen.accuracy)
        best = max(textbooks, key=lambda rate: textbooks[rate].points[-1][1])
        textbooks[best].go_on(chosen.passes, chosen.accuracy, too_long=chosen.give_up * trained)
        theirs = textbooks[best].points
    slow = reached(theirs, chosen.accuracy)
    least = "" if slow else "more than "
    slow = slow or theirs[-1][0]
    say(f"to {chosen.accuracy:.1%}: textbook (learning rate {best:g}) {least}{slow:.0f} s, at {theirs[-1][1]:.2%}")
    say(f"ours, from the start of the head on: {fast:.1f} s, ratio {least}{slow / fast:.1f}")
    say(f"ours, counted only after gradient steps: {trained:.1f} s, ratio {least}{slow / trained:.1f}")


if __name__ == "__main__":
    main()
