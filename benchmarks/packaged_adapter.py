"""Train the packaged adapter of the language model again, in its three stages: about 3 hours on one core.

    python benchmarks/packaged_adapter.py OUT

The first stage makes three passes over the examples of TellerChat that existed then. Each later stage continues the
adapter with one pass over the examples that were written against its faults, and every third or fourth of the others,
so that nothing is forgotten. The result is the mean of the weights before and after the last stage. An interrupted
training resumes with the same command.
"""

import argparse
import shutil
from pathlib import Path

from bankllm.datasets.tellerchat import Understand, Word, load
from bankllm.training.config import LanguageModelConfig
from bankllm.training.language_model.fine_tune import fine_tune
from bankllm.training.language_model.token_rows import Example

EXAMPLES = {Understand: (5885, 8956), Word: (1475, 1930)}
"""Number of examples of the first stage, and of the first two. The files have the later ones behind them."""


def stages() -> list[tuple[dict[str, object], list[Example]]]:
    parts: list[list[Example]] = [[], [], []]
    for task, (first, second) in EXAMPLES.items():
        examples = load(task, "train")
        for part, rows in zip(parts, (examples[:first], examples[first:second], examples[second:]), strict=True):
            part += rows
    first_part, second_part, third_part = parts
    return [
        ({"epochs": 3, "learning_rate": 2e-3}, first_part),
        ({"epochs": 1, "learning_rate": 1e-3}, [*second_part, *first_part[::3]]),
        ({"epochs": 1, "learning_rate": 1e-3, "average": True}, [*third_part, *second_part[::4], *first_part[::4]]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--start", type=Path, help="Adapter of the last stage but one; only the last one is trained.")
    arguments = parser.parse_args()
    start, remaining = arguments.start, stages()[-1:] if arguments.start else stages()
    for number, (options, examples) in enumerate(remaining, 1):
        last = number == len(remaining)
        output = arguments.output if last else arguments.output.with_name(f"{arguments.output.name}-{number}")
        checkpoint = output.with_name(f"{output.name}.checkpoint")
        if last or not output.exists():
            config = LanguageModelConfig.model_validate({"rank": 16, "batch_size": 8, "start": start, **options})
            fine_tune(config, examples, output, checkpoint=checkpoint)
        shutil.rmtree(checkpoint, ignore_errors=True)
        start = output


if __name__ == "__main__":
    main()
