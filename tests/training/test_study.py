"""The stored study agrees with the defaults of `TrainConfig`."""

import csv
import json
from pathlib import Path

from bankllm import training
from bankllm.training.config import TrainConfig


def test_every_candidate_is_a_valid_configuration_and_the_chosen_one_is_the_default():
    with Path(training.__file__).with_name("study.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    configs = {row["candidate"]: TrainConfig.model_validate(json.loads(row["settings"])) for row in rows}
    assert len(configs) == len(rows)
    assert {int(row["texts"]) for row in rows} == {1998}
    chosen = next(name for name in configs if name.startswith("kernel head"))
    assert configs[chosen] == TrainConfig(top_layers=3)  # the upper half
    accuracies = {row["candidate"]: float(row["validation accuracy"]) for row in rows}
    # It is the default because no candidate is better by more than two standard errors.
    assert accuracies[chosen] > max(accuracies.values()) - 0.012
    assert accuracies[chosen] > max(value for name, value in accuracies.items() if "kernel" not in name)
