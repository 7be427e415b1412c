"""The evidence that an artifact folder carries: raw rows, and the records computed from them.

`raw/predictions.csv` holds one row a test text (no texts), `raw/cost.csv` one row of costs; `records.jsonl` holds
what the model card says. `bankllm verify FOLDER` recomputes every number.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from bankllm.evidence.records import (
    Raw,
    Record,
    measure,
    not_measured,
    sha256_file,
    write_records,
    write_rows,
)
from bankllm.model.artifact import TRAINING_FILE, ClassifierConfig

PREDICTIONS = "raw/predictions.csv"
COST = "raw/cost.csv"
QUALITY = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "expected_calibration_error": "Expected calibration error",
}
"""Statistic and id of a record → its title."""
COSTS = {
    "train_s": ("training time, embedding included", "s", "total_seconds"),
    "examples_per_s": ("training texts a second of optimisation", "texts/s", "examples_per_second"),
    "peak_memory": ("peak memory over the level before", "bytes", "peak_memory_bytes"),
    "trainable": ("trainable parameters", "parameters", "trainable_parameters"),
    "trainable_share": ("trainable share of all parameters", "share", "trainable_share"),
    "adapter": ("weights on disk", "bytes", "adapter_bytes"),
    "truncated": ("texts cut at the maximum length", "texts", "truncated"),
}
"""Id of a record → title, unit, and column of `Costs.row`."""
LIBRARIES = ("torch", "transformers", "peft", "bankllm")


class Costs(BaseModel):
    """What a training took."""

    model_config = ConfigDict(frozen=True)

    device: str
    precision: str
    encode_seconds: float
    """Embedding the training texts once with the frozen base; 0 where the method does without. Where another training
    had made the embeddings, what it took then."""
    seconds: float
    """The optimisation alone, the start of the head included: no loading, embedding or testing."""
    rows_seen: int
    """Training texts times epochs."""
    truncated: int
    """Texts of both splits that are longer than `max_length` tokens and were cut there."""
    peak_memory_bytes: int
    """Of loading, embedding and training together; see `PeakMemory`."""
    reserved_memory_bytes: int
    """What torch held on the GPU; 0 on a CPU."""
    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int
    """Weights on disk, adapter (or body) and head; 0 if nothing was saved."""

    @property
    def total_seconds(self) -> float:
        """Embedding and optimisation together, as if the configuration had been trained alone."""
        return self.encode_seconds + self.seconds

    @property
    def examples_per_second(self) -> float:
        """Training texts a second of optimisation."""
        return self.rows_seen / self.seconds

    def row(self) -> dict[str, object]:
        """Everything, as the one row of a cost file."""
        return {
            **self.model_dump(),
            "total_seconds": self.total_seconds,
            "examples_per_second": self.examples_per_second,
            "trainable_share": self.trainable_parameters / self.total_parameters,
        }


def write_evidence(
    folder: Path, artifact: ClassifierConfig, model: str, predictions: Sequence[Mapping[str, object]], costs: Costs
) -> list[Record]:
    """Write raw rows and `records.jsonl` into a saved artifact; `model` is the base model's published name.

    `predictions` are rows as `TrainResult.predictions` has them; where there are none, quality is *not measured*.
    """
    weights = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.safetensors"))
    size = sum((folder / name).stat().st_size for name in weights)
    write_rows(folder / COST, [costs.model_copy(update={"adapter_bytes": size}).row()])
    if predictions:
        write_rows(folder / PREDICTIONS, predictions)
    conditions = {
        **{key: value for key, value in artifact.training.items() if key != "config"},
        "model": model,
        "model_sha256": artifact.base_sha256,
        "config": {**artifact.training["config"], "base_model": model},  # never a path of this machine
        "host": _host(costs),
        "files": {name: sha256_file(folder / name) for name in (*weights, TRAINING_FILE)},
    }
    facts: dict[str, Any] = {"notebook": "training", "conditions": conditions}
    if predictions:
        answers = Raw(path=PREDICTIONS, sha256=sha256_file(folder / PREDICTIONS))
        records = [
            measure(folder, id, id, answers, title=title, unit="share", parameters={}, **facts)
            for id, title in QUALITY.items()
        ]
    else:
        why = "the data set has no test texts"
        records = [not_measured(id, title=title, unit="share", why=why, **facts) for id, title in QUALITY.items()]
    cost = Raw(path=COST, sha256=sha256_file(folder / COST))
    records += [
        measure(
            folder,
            id,
            "single",
            cost,
            title=title[0].upper() + title[1:],
            unit=unit,
            parameters={"column": column},
            **facts,
        )
        for id, (title, unit, column) in COSTS.items()
    ]
    write_records(folder, records)
    return records


def _host(costs: Costs) -> dict[str, object]:
    """The machine and the libraries, without a name or a path."""
    gpu = {}
    if costs.device == "cuda":
        import torch

        gpu = {"gpu": torch.cuda.get_device_name()}
    return {
        "device": costs.device,
        "precision": costs.precision,
        **gpu,
        "cores": os.cpu_count(),
        "machine": f"{platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
