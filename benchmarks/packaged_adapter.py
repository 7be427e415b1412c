"""Train the packaged adapter of the language model again, in its two stages: about 2.5 hours on one core.

    python benchmarks/packaged_adapter.py OUT

The first stage makes three passes over the examples of TellerChat that existed then. The second stage continues the
adapter with one pass over the examples that were written against its faults, and every third of the others, so that
nothing is forgotten. An interrupted training resumes with the same command.
"""

import argparse
import shutil
from pathlib import Path

from bankllm.datasets.tellerchat import Understand, Word, load
from bankllm.training.language_model.fine_tune import fine_tune
from bankllm.training.language_model.fine_tune_config import LanguageModelConfig
from bankllm.training.language_model.token_rows import Example

FIRST = {Understand: 5885, Word: 1475}
"""Number of examples of the first stage. The files have the later ones behind them."""


def stages() -> list[tuple[dict[str, object], list[Example]]]:
    first: list[Example] = []
    later: list[Example] = []
    for task, count in FIRST.items():
        examples = load(task, "train")
        first += examples[:count]
        later += examples[count:]
    return [
        ({"epochs": 3, "learning_rate": 2e-3}, first),
        ({"epochs": 1, "learning_rate": 1e-3}, [*later, *first[::3]]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--start", type=Path, help="Adapter of the first stage; only the second one is trained.")
    arguments = parser.parse_args()
    start, remaining = arguments.start, stages()[1 if arguments.start else 0 :]
    for options, examples in remaining:
        last = options is remaining[-1][0]
        output = arguments.output if last else arguments.output.with_name(f"{arguments.output.name}-first")
        checkpoint = output.with_name(f"{output.name}.checkpoint")
        if last or not output.exists():
            config = LanguageModelConfig.model_validate({"rank": 16, "batch_size": 8, "start": start, **options})
            fine_tune(config, examples, output, checkpoint=checkpoint)
        shutil.rmtree(checkpoint, ignore_errors=True)
        start = output


if __name__ == "__main__":
    main()
