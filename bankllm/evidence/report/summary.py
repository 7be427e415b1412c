"""Order a run's records for readers: sections, headlines, the table of trainings, the short tables on top."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bankllm.evidence.records import Record

SECTIONS = {
    "chat": "Chat service, one request at a time",
    "load": "Chat service under load",
    "training": "Fine-tuning",
    "vectors": "Vector search",
    "telemetry": "What the server says of itself",
}
"""First part of a record's id → heading, in the order of the pages."""

API = (
    "chat.sequential.*",
    "load.ab.*",
    "load.locust.*",
    "load.openloop.[opt]*",
    "load.sweep.*.knee",
    "load.session.*.p95_ms",
    "telemetry.histogram.p95_ms",
    "telemetry.rss",
)
VECTORS = (
    "vectors.indexed",
    "vectors.file",
    "vectors.total.p*",
    "vectors.search.p*",
    "vectors.customer.total.p*",
    "vectors.recall",
    "vectors.bulk_embedding",
    "vectors.cache.[duzr]*",
)
"""Ids of the records that the short tables on top show, in their order."""

TRAINING_COLUMNS = {
    "accuracy": "accuracy",
    "accuracy_over_seeds": "mean of the seeds",
    "macro_f1": "macro-F1",
    "train_s": "training",
    "peak_memory": "peak memory",
    "trainable": "trainable",
    "adapter": "artifact",
}
"""Last part of a training record's id → column of the table that compares the configurations."""

HEADLINES = ("chat.sequential.p95_ms", "load.ab.throughput", "load.openloop.p95_ms", "vectors.total.p95_ms")
"""Records that the head of the results page shows after the best accuracy, where they were measured."""


@dataclass(frozen=True)
class Section:
    """One table of the results page, with its plots."""

    title: str
    records: tuple[Record, ...]
    plots: tuple[Path, ...]


def sections(folder: Path, records: Sequence[Record]) -> list[Section]:
    """The records by the first part of their id, in the pages' order, with their notebooks' plots."""
    plots = sorted((folder / "plots").glob("*.png"))
    found = []
    for title, mine in by_topic(records).items():
        numbers = {record.notebook[:2] for record in mine}
        found.append(Section(title, mine, tuple(plot for plot in plots if plot.name[:2] in numbers)))
    return found


def by_topic(records: Sequence[Record]) -> dict[str, tuple[Record, ...]]:
    """Heading → records by the first part of their id, in the pages' order; rooms without any are left out."""
    others = sorted({record.id.split(".")[0] for record in records} - set(SECTIONS))
    found = {}
    for prefix, title in (SECTIONS | {name: name for name in others}).items():
        if mine := tuple(record for record in records if record.id.split(".")[0] == prefix):
            found[title] = mine
    return found


def headlines(records: Sequence[Record]) -> list[Record]:
    """The few numbers that a reader in a hurry looks for."""
    measured = measured_by_id(records)
    best = best_training(records)
    return [*([best] if best else []), *(measured[id] for id in HEADLINES if id in measured)]


def best_training(records: Sequence[Record]) -> Record | None:
    """The highest accuracy of a configuration, the first of equals."""
    accuracies = [
        record
        for id, record in measured_by_id(records).items()
        if id.startswith("training.") and id.endswith(".accuracy")
    ]
    return max(accuracies, key=lambda record: record.value or 0, default=None)


def training_table(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """Configuration → column → record, for ids `training.<configuration>.<column>` that were measured."""
    table: dict[str, dict[str, Record]] = {}
    for id, record in measured_by_id(records).items():
        parts = id.split(".")
        if parts[0] == "training" and len(parts) == 3 and parts[2] in TRAINING_COLUMNS:
            table.setdefault(record.conditions.get("configuration", parts[1]), {})[parts[2]] = record
    return table


def chosen(records: Sequence[Record], patterns: Sequence[str]) -> list[Record]:
    """The records whose ids fit the patterns, in the patterns' order, whatever their status."""
    found = {record.id: record for pattern in patterns for record in records if fnmatchcase(record.id, pattern)}
    return list(found.values())


def measured_by_id(records: Sequence[Record]) -> dict[str, Record]:
    return {record.id: record for record in records if record.status == "measured"}
