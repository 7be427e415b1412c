"""Training time to reach a test accuracy on full Banking77: a standard LoRA recipe and ours, in one process.

python benchmarks/finetuning.py                 # half an hour on two cores
python benchmarks/finetuning.py --passes 2      # shorter

The standard recipe uses AutoModelForSequenceClassification, the defaults of PEFT and Trainer, a random head and batches
of 32. It trains one pass with each of three learning rates, and continues with the best one until it reaches the
accuracy or takes `--give-up` times as long as ours. The time for evaluation is not counted. Our time includes the
embedding of the texts.
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

    from bankllm.training import trainer  # noqa: F401  imported before any timer starts

from bankllm.training.config import TrainConfig
from bankllm.training.train import train

transformers_logging.set_verbosity_error()
LEARNING_RATES = (5e-4, 1e-3, 2e-3)
Point = tuple[float, float]
"""(seconds of training so far, test accuracy)."""


class Textbook(TrainerCallback):
    """The standard recipe, stopped after a number of passes; `points` has one point per pass."""

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
        test_rows = [
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
        self._test_rows, self._labels = test_rows, np.array(data.test.labels)

    def continue_training(self, until_pass: int, target_accuracy: float, max_seconds: float = float("inf")) -> None:
        """Train until a pass of the schedule, the target accuracy or the time limit in s is reached."""
        self._stop_after, self._target_accuracy, self._max_seconds = until_pass, target_accuracy, max_seconds
        self._trainer.train(resume_from_checkpoint=bool(self.points))

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._began = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        before = self.points[-1][0] if self.points else 0.0
        seconds = before + time.perf_counter() - self._began
        predictions = self._trainer.predict(self._test_rows).predictions.argmax(axis=1)
        self.points.append((seconds, float(np.mean(predictions == self._labels))))
        self._trainer.model.train()
        show(f"textbook, learning rate {args.learning_rate:g}, pass {len(self.points)}", self.points[-1])
        if (
            len(self.points) >= self._stop_after
            or self.points[-1][1] >= self._target_accuracy
            or seconds >= self._max_seconds
        ):
            control.should_training_stop = True


def train_ours(data: Dataset, evaluations: int) -> list[Point]:
    """Train with the defaults of `TrainConfig`; the first point is after the initialisation of the head."""
    result = train(TrainConfig(), data, progress=False, curve=evaluations)
    points = [(result.costs.encode_seconds + row["seconds"], row["accuracy"]) for row in result.curve]
    for row, point in zip(result.curve, points, strict=True):
        show(f"ours, {row['examples'] / len(data.train):.2f} passes", point)
    return points


def show(what: str, point: Point) -> None:
    print(f"{what:<45} {point[0]:8.1f} s   {point[1]:.2%}", flush=True)


def reached(points: list[Point], accuracy: float) -> float | None:
    """Return the seconds at which an accuracy is reached; None if it is not."""
    return next((seconds for seconds, value in points if value >= accuracy), None)


def main(say: Callable[[str], None] = print) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--accuracy", type=float, default=0.921, help="target accuracy on the test split")
    options.add_argument("--passes", type=int, default=8, help="passes of the standard recipe")
    options.add_argument(
        "--give-up", type=float, default=12, help="stop the standard recipe after this multiple of our time"
    )
    options.add_argument("--dataset", default="banking77")
    options.add_argument("--intents", type=int, default=None, help="use only the first N intents")
    chosen = options.parse_args()
    data = datasets.load(chosen.dataset).first_intents(chosen.intents)
    say(data.describe())
    our_points = train_ours(data, evaluations=4)
    our_seconds, our_training_seconds = reached(our_points, chosen.accuracy), reached(our_points[1:], chosen.accuracy)
    if our_seconds is None or our_training_seconds is None:
        say(f"Our training does not reach {chosen.accuracy:.2%}; its final accuracy is {our_points[-1][1]:.2%}.")
        raise SystemExit(1)
    with TemporaryDirectory() as folder:
        textbooks = {rate: Textbook(data, rate, chosen.passes, Path(folder) / f"{rate:g}") for rate in LEARNING_RATES}
        for textbook in textbooks.values():
            textbook.continue_training(1, chosen.accuracy)
        best = max(textbooks, key=lambda rate: textbooks[rate].points[-1][1])
        textbooks[best].continue_training(
            chosen.passes, chosen.accuracy, max_seconds=chosen.give_up * our_training_seconds
        )
        textbook_points = textbooks[best].points
    textbook_seconds = reached(textbook_points, chosen.accuracy)
    at_least = "" if textbook_seconds else "more than "
    textbook_seconds = textbook_seconds or textbook_points[-1][0]
    say(
        f"time to {chosen.accuracy:.1%}: standard recipe (learning rate {best:g}) {at_least}{textbook_seconds:.0f} s, "
        f"final accuracy {textbook_points[-1][1]:.2%}"
    )
    for label, seconds in (("with the initialised head", our_seconds), ("after training steps", our_training_seconds)):
        say(f"ours, {label}: {seconds:.1f} s, ratio {at_least}{textbook_seconds / seconds:.1f}")


if __name__ == "__main__":
    main()
