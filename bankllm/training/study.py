"""The study that chose `TrainConfig`'s defaults: each candidate differs from them in what its name says.

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

DEFAULTS = TrainConfig.model_validate({})

CANDIDATES: dict[str, dict[str, Any]] = {
    "the defaults (LoRA r=8)": {},
    "all six layers": {"top_layers": None},
    "top two layers": {"top_layers": 2},
    "head from class means": {"head_init": "class-means"},
    "random head": {"head_init": "random"},
    "query, key and value": {"target_modules": ("query", "key", "value")},
    "all linear layers": {"target_modules": "all-linear"},
    "adapter rate 1e-3": {"lr_adapter": 1e-3},
    "adapter rate 4e-3": {"lr_adapter": 4e-3},
    "head rate 3e-3": {"lr_head": 3e-3},
    "logit scale 30, label smoothing 0.05": {"logit_scale": 30, "label_smoothing": 0.05},
    "batches of 32": {"batch_size": 32},
    "dropout 0.1": {"dropout": 0.1},
    "four passes": {"epochs": 4},
    "no adapter (linear probe)": {"method": "probe"},
}
"""What differs from the defaults, for each candidate."""


def compare(
    data: Dataset, candidates: dict[str, dict[str, Any]], report: Callable[[dict[str, object]], None], seed: int = 0
) -> list[dict[str, object]]:
    """Train every candidate on `split_validation(data)`; a row {candidate, accuracy, texts, seconds} each.

    `seconds` is the optimisation; embedding the texts is shared where it can be.
    """
    from bankllm.training.train import train

    chosen, rows, frozen = split_validation(data), [], None
    for name, options in candidates.items():
        result = train(TrainConfig.model_validate({"seed": seed, **options}), chosen, progress=False, frozen=frozen)
        frozen = result.frozen if result.frozen and result.frozen.top_layers == DEFAULTS.top_layers else frozen
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
