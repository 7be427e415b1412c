"""Write the evidence of a training into its artifact folder: raw rows, and the records computed from them.

`raw/predictions.csv` has one row per test text, without the text itself. `bankllm verify FOLDER` computes the records
again.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bankllm.evidence.records import Raw, Record, measure, not_measured, write_records, write_rows
from bankllm.model.artifact import TRAINING_FILE, ClassifierConfig
from bankllm.util.file_hash import sha256_file

PREDICTIONS = "raw/predictions.csv"
COST = "raw/cost.csv"
QUALITY = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "expected_calibration_error": "Expected calibration error"}
"""Name of the statistic, which is also the id of the record → title of the record."""
COSTS = {
    "train_s": ("training time, embedding included", "s", "total_seconds"),
    "examples_per_s": ("training texts a second of optimisation", "texts/s", "examples_per_second"),
    "peak_memory": ("peak memory over the level before", "bytes", "peak_memory_bytes"),
    "trainable": ("trainable parameters", "parameters", "trainable_parameters"),
    "trainable_share": ("trainable share of all parameters", "share", "trainable_share"),
    "adapter": ("weights on disk", "bytes", "adapter_bytes"),
    "truncated": ("texts cut at the maximum length", "texts", "truncated"),
}
"""Id of the record → title, unit, and column of `Costs.row`."""


class Costs(BaseModel):
    model_config = ConfigDict(frozen=True)

    device: str
    precision: str
    encode_seconds: float
    """Seconds for embedding the training texts; 0 if it was not needed."""
    seconds: float
    """Seconds of optimisation, including the head, without loading, embedding and testing."""
    rows_seen: int
    """Training texts × epochs."""
    truncated: int
    """Texts of both splits that were cut at `max_length` tokens."""
    peak_memory_bytes: int
    """Peak over loading, embedding and training; see `PeakMemory`."""
    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int
    """Weights on disk: adapter (or body) and head; 0 if nothing was saved."""

    @property
    def total_seconds(self) -> float:
        return self.encode_seconds + self.seconds

    @property
    def examples_per_second(self) -> float:
        return self.rows_seen / self.seconds

    def row(self) -> dict[str, object]:
        """All fields and derived values, as the single row of `raw/cost.csv`."""
        return {
            **self.model_dump(),
            "total_seconds": self.total_seconds,
            "examples_per_second": self.examples_per_second,
            "trainable_share": self.trainable_parameters / self.total_parameters,
        }


def write_evidence(
    folder: Path, artifact: ClassifierConfig, model: str, predictions: Sequence[Mapping[str, object]], costs: Costs
) -> dict[str, Record]:
    """Write raw rows and `records.jsonl` into a saved artifact folder, and return the records by id.

    `model` is the published name of the base model. Without `predictions`, the rows of `TrainResult.predictions`, the
    quality records are *not measured*.
    """
    weights = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))
    write_rows(folder / COST, [costs.row()])
    conditions = {
        **{key: value for key, value in artifact.training.items() if key not in ("config", "rows_sha256")},
        "model": model,
        "model_sha256": artifact.base_sha256,
        "config": {**artifact.training["config"], "base_model": model},  # the published name, never a local path
        "host": host(costs.device, costs.precision),
        "files": {name: sha256_file(folder / name) for name in (*weights, TRAINING_FILE)},
    }
    facts: dict[str, Any] = {"notebook": "training", "conditions": conditions, "unit": "share"}
    if predictions:
        write_rows(folder / PREDICTIONS, predictions)
        raw = Raw(path=PREDICTIONS, sha256=sha256_file(folder / PREDICTIONS))
        records = [measure(folder, id, id, raw, title=title, parameters={}, **facts) for id, title in QUALITY.items()]
    else:
        why = "the data set has no test texts"
        records = [not_measured(id, title=title, why=why, **facts) for id, title in QUALITY.items()]
    raw = Raw(path=COST, sha256=sha256_file(folder / COST))
    for id, (title, unit, column) in COSTS.items():
        facts |= {"title": title[0].upper() + title[1:], "unit": unit, "parameters": {"column": column}}
        records.append(measure(folder, id, "single", raw, **facts))
    write_records(folder, records)
    return {record.id: record for record in records}


def host(device: str, precision: str) -> dict[str, object]:
    """Describe the machine and the library versions, without host name and paths."""
    import torch

    return {
        "device": device,
        "precision": precision,
        **({"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}),
        "cores": os.cpu_count(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft", "bankllm")},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
