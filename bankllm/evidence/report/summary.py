"""Select and order the records of a run for the report pages."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from bankllm.evidence.records import Record

SECTIONS = {
    "chat": "Chat service, one request at a time",
    "load": "Chat service under load",
    "training": "Fine-tuning",
    "vectors": "Vector search",
    "telemetry": "Metrics of the server",
}
"""First part of a record's id → heading of its section, in the order of the page."""

TRAINING_COLUMNS = {
    "accuracy": "accuracy",
    "accuracy_over_seeds": "mean over seeds",
    "macro_f1": "macro-F1",
    "train_s": "training time",
    "peak_memory": "peak memory",
    "trainable": "trainable",
    "adapter": "artifact size",
}
"""Last part of a training record's id → column title in the table that compares the configurations."""

HEADLINES = ("chat.sequential.p95_ms", "load.ab.throughput", "load.openloop.p95_ms", "vectors.total.p95_ms")


def by_topic(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Heading → records with the same first part of their id, in the order of the page. Empty topics are omitted."""
    topics: dict[str, list[Record]] = {prefix: [] for prefix in SECTIONS}
    for record in sorted(records, key=lambda record: record.id.split(".")[0]):
        topics.setdefault(record.id.split(".")[0], []).append(record)
    return {SECTIONS.get(prefix, prefix): members for prefix, members in topics.items() if members}


def plots_by_topic(folder: Path, topics: Mapping[str, Sequence[Record]]) -> dict[str, list[Path]]:
    """Heading → plots of the notebooks that made its records; a plot is only under its first heading."""
    unplaced = sorted((folder / "plots").glob("*.png"))
    placed = {}
    for title, members in topics.items():
        notebooks = {record.notebook[:2] for record in members}
        placed[title] = [plot for plot in unplaced if plot.name[:2] in notebooks]
        unplaced = [plot for plot in unplaced if plot not in placed[title]]
    return placed


def headlines(records: Sequence[Record]) -> list[Record]:
    """The records at the top of the results page: the best accuracy, then those of `HEADLINES`, if measured."""
    measured = measured_by_id(records)
    best = best_training(records)
    return [*([best] if best else []), *(measured[id] for id in HEADLINES if id in measured)]


def best_training(records: Sequence[Record]) -> Record | None:
    """The record with the highest accuracy of all training configurations, or None. Of equal values, the first."""
    accuracies = matching(list(measured_by_id(records).values()), ["training.*.accuracy"])
    return max(accuracies, key=lambda record: record.value or 0, default=None)


def training_table(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """Configuration → column → record, for the measured records `training.<configuration>.<column>`."""
    table: dict[str, dict[str, Record]] = {}
    for id, record in measured_by_id(records).items():
        parts = id.split(".")
        if parts[0] == "training" and len(parts) == 3 and parts[2] in TRAINING_COLUMNS:
            table.setdefault(record.conditions.get("configuration", parts[1]), {})[parts[2]] = record
    return table


def matching(records: Sequence[Record], patterns: Sequence[str]) -> list[Record]:
    """The records of any status whose ids match one of the patterns (`fnmatch`), in the order of the patterns."""
    by_id = {record.id: record for pattern in patterns for record in records if fnmatchcase(record.id, pattern)}
    return list(by_id.values())


def measured_by_id(records: Sequence[Record]) -> dict[str, Record]:
    return {record.id: record for record in records if record.status == "measured"}
