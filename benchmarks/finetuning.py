"""Training time to reach a test accuracy on full Banking77: a standard LoRA recipe and ours, in one process.

python benchmarks/finetuning.py                 # half an hour on two cores
python benchmarks/finetuning.py --passes 2      # shorter

The standard recipe uses AutoModelForSequenceClassification, the defaults of PEFT and Trainer, a random head and batches
of 32. It trains one pass with each of three learning rates, and continues with the best one until it reaches the
accuracy or takes 12 times as long as ours. The time for evaluation is not counted. Our time includes the embedding.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bankllm import datasets
from bankllm.datasets import Dataset, Split
from bankllm.model import base_models
from bankllm.model.quiet_loading import quiet_loading

with quiet_loading():
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

from bankllm.model.quiet_loading import quiet_loading
from bankllm.training.config import TrainConfig
from bankllm.training.train import train

ACCURACY = 0.921
"""Target on the test split."""
LEARNING_RATES = (5e-4, 1e-3, 2e-3)
GIVE_UP = 12
Point = tuple[float, float]
"""(seconds of training so far, test accuracy)."""


class Textbook(TrainerCallback):
    """The standard recipe, stopped after a number of passes; `points` has one point per pass."""

    def __init__(self, data: Dataset, learning_rate: float, passes: int, folder: Path) -> None:
        base = base_models.resolve("minilm")
        tokenizer = AutoTokenizer.from_pretrained(base.location)
        with quiet_loading():
            plain = AutoModelForSequenceClassification.from_pretrained(base.location, num_labels=len(data.label_names))
            model = get_peft_model(plain, LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=["query", "value"]))
        rows, self._test_rows = (_tokenised(tokenizer, split) for split in (data.train, data.test))
        self.points: list[Point] = []
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
        collate = DataCollatorWithPadding(tokenizer)
        self._trainer = Trainer(model, arguments, collate, train_dataset=rows, callbacks=[self])
        self._trainer.remove_callback(PrinterCallback)
        self._labels = np.array(data.test.labels)

    def continue_training(self, until_pass: int, max_seconds: float = float("inf")) -> None:
        """Train until a pass of the schedule, the target accuracy or the time limit in s is reached."""
        self._stop_after, self._max_seconds = until_pass, max_seconds
        self._trainer.train(resume_from_checkpoint=bool(self.points))

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._began = time.perf_counter()

    def on_epoch_end(self, args, state, control, **kwargs):
        seconds = (self.points[-1][0] if self.points else 0.0) + time.perf_counter() - self._began
        predictions = self._trainer.predict(self._test_rows).predictions.argmax(axis=1)
        self._trainer.model.train()
        accuracy = float(np.mean(predictions == self._labels))
        self.points.append((seconds, accuracy))
        show(f"textbook, learning rate {args.learning_rate:g}, pass {len(self.points)}", self.points[-1])
        if len(self.points) >= self._stop_after or accuracy >= ACCURACY or seconds >= self._max_seconds:
            control.should_training_stop = True


def _tokenised(tokenizer, split: Split) -> list[dict[str, object]]:
    tokens = tokenizer(list(split.texts), truncation=True)["input_ids"]
    return [{"input_ids": ids, "labels": label} for ids, label in zip(tokens, split.labels, strict=True)]


def show(what: str, point: Point) -> None:
    print(f"{what:<45} {point[0]:8.1f} s   {point[1]:.2%}", flush=True)


def reached(points: list[Point]) -> float | None:
    """Return the seconds at which the target accuracy is reached; None if it is not."""
    return next((seconds for seconds, value in points if value >= ACCURACY), None)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--passes", type=int, default=8, help="passes of the standard recipe")
    passes, data = options.parse_args().passes, datasets.load("banking77")
    print(data.describe())
    result = train(TrainConfig(), data, progress=False, curve=4)
    ours = [(result.costs.encode_seconds + row["seconds"], row["accuracy"]) for row in result.curve]
    for point in ours:
        show("ours", point)
    started, trained = reached(ours), reached(ours[1:])
    if started is None or trained is None:
        raise SystemExit(f"Our training does not reach {ACCURACY:.1%}; it ends at {ours[-1][1]:.2%}.")
    with TemporaryDirectory() as folder:
        textbooks = [Textbook(data, rate, passes, Path(folder) / f"{rate:g}") for rate in LEARNING_RATES]
        for textbook in textbooks:
            textbook.continue_training(1)
        best = max(textbooks, key=lambda textbook: textbook.points[-1][1])
        best.continue_training(passes, max_seconds=GIVE_UP * trained)
    found = reached(best.points)
    at_least, seconds = ("", found) if found else ("more than ", best.points[-1][0])
    print(f"standard recipe: {at_least}{seconds:.0f} s to {ACCURACY:.1%}, final accuracy {best.points[-1][1]:.2%}")
    for label, our_seconds in (("with the initialised head", started), ("after training steps", trained)):
        print(f"ours, {label}: {our_seconds:.1f} s, ratio {at_least}{seconds / our_seconds:.1f}")


if __name__ == "__main__":
    main()
