"""The study that chose `TrainConfig`'s defaults: each candidate differs from the start in what its name says.

python -m bankllm.training.study              # on full Banking77: about a quarter of an hour on two cores

Every candidate trains on nine tenths of the training split and answers the other tenth; the test split is never
read. The result is kept in the package (`study.csv`), and `kept()` reads it.
"""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bankllm import datasets
from bankllm.datasets import Dataset
from bankllm.evidence.records import write_rows
from bankllm.training.config import TrainConfig
from bankllm.training.split import split_validation

KEPT = Path(__file__).with_name("study.csv")

START: dict[str, Any] = {"lr_adapter": 2e-3, "top_layers": 3}
"""Where the study began: LoRA r=8 on query and value, and otherwise the defaults."""

CANDIDATES: dict[str, dict[str, Any]] = {
    "start: LoRA r=8, top three layers, adapter rate 2e-3": {},
    "all six layers": {"top_layers": None},
    "top two layers": {"top_layers": 2},
    "head from class means": {"head_init": "class-means"},
    "random head": {"head_init": "random"},
    "query, key and value": {"target_modules": ("query", "key", "value")},
    "all linear layers": {"target_modules": "all-linear"},
    "adapter rate 1e-3": {"lr_adapter": 1e-3},
    "adapter rate 4e-3 (chosen)": {"lr_adapter": 4e-3},
    "no adapter (linear probe)": {"method": "probe"},
}
"""What differs from the start, for each candidate."""


def compare(
    data: Dataset, candidates: dict[str, dict[str, Any]], report: Callable[[dict[str, object]], None], seed: int = 0
) -> list[dict[str, object]]:
    """Train every candidate on `split_validation(data)`; a row {candidate, accuracy, texts, seconds} each.

    `seconds` is the optimisation; embedding the texts is shared where it can be.
    """
    from bankllm.training.train import train

    chosen, rows, frozen = split_validation(data), [], None
    for name, options in candidates.items():
        config = TrainConfig.model_validate({"seed": seed, **START, **options})
        result = train(config, chosen, progress=False, frozen=frozen)
        frozen = result.frozen if result.frozen and result.frozen.top_layers == START["top_layers"] else frozen
        right = sum(row["actual"] == row["predicted"] for row in result.predictions)
        row: dict[str, object] = {
            "candidate": name,
            "validation accuracy": round(right / len(result.predictions), 4),
            "texts": len(result.predictions),
            "seconds": round(result.seconds, 1),
        }
        report(row)
        rows.append(row)
    return rows


def kept() -> list[dict[str, str]]:
    """The rows of the study that chose the defaults, as text."""
    with KEPT.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--output", type=Path, default=Path("study.csv"), help="a CSV file")
    options.add_argument("--dataset", default="banking77")
    chosen = options.parse_args()
    write_rows(chosen.output, compare(datasets.load(chosen.dataset), CANDIDATES, report=print))


if __name__ == "__main__":
    main()
