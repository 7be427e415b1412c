"""Select and order what the report pages show of a run: its headlines, and one section per notebook."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bankllm.evidence.records import Record


@dataclass(frozen=True)
class Comparison:
    """A table of the records `<prefix><row>.<column>`, with one row per model, configuration or rate."""

    title: str
    first: str
    """Title of the first column."""
    prefix: str
    columns: dict[str, str]
    """Last part of the id → column title."""

    def of(self, records: Sequence[Record]) -> "ComparisonTable":
        """The table of a run's measured records, without empty columns."""
        rows: dict[str, dict[str, Record]] = {}
        for record in measured_by_id(records).values():
            row, _, column = record.id.removeprefix(self.prefix).partition(".")
            if record.id.startswith(self.prefix) and column in self.columns:
                title = record.conditions.get("configuration", re.sub(r"(?<=\d)_(?=\d)", ".", row).replace("_", " "))
                rows.setdefault(title, {})[column] = record
        used = {column for row in rows.values() for column in row}
        return ComparisonTable(self, {column: title for column, title in self.columns.items() if column in used}, rows)


@dataclass(frozen=True)
class ComparisonTable:
    """A comparison in one run."""

    comparison: Comparison
    columns: dict[str, str]
    rows: dict[str, dict[str, Record]]
    """Row title → column → record."""


@dataclass(frozen=True)
class Chapter:
    """What the pages show of one notebook."""

    title: str
    question: str = ""
    main: tuple[str, ...] = ()
    """Patterns (`fnmatch`) of the ids of the records that are always visible, in their order."""
    comparisons: tuple[Comparison, ...] = ()


TRAINING = Comparison(
    "Classifiers",
    "configuration",
    "training.",
    {
        "accuracy": "accuracy",
        "accuracy_over_seeds": "mean over seeds",
        "macro_f1": "macro-F1",
        "train_s": "training time",
        "peak_memory": "peak memory",
        "trainable": "trainable",
        "adapter": "artifact size",
    },
)
LANGUAGE = Comparison(
    "Language models, before and after tuning, and rules",
    "model",
    "language.",
    {
        "understand_exact": "exactly right calls",
        "understand_tool_f1": "F1 of the tools",
        "word_grounded": "replies without an ungrounded figure",
        "word_complete": "replies with every required piece",
        "tokens_per_s": "generated",
        "train_s": "training time",
    },
)
CURVE = Comparison(
    "The language model's path, by offered rate (requests per second)",
    "offered",
    "load.model.at_",
    {
        "share": "served by the model",
        "goodput": "goodput",
        "ttft.p50_ms": "first word, p50",
        "p95_ms": "whole reply, p95",
        "tokens": "tokens",
        "right": "answered right",
        "wrong": "answered wrong",
    },
)
CHAPTERS = {
    "01": Chapter(
        "Chat service, one request at a time",
        "Does the assistant answer correctly and stay within its rules, and how long does one chat take?",
        (
            *("chat.conversations.*", "chat.sequential.p*", "chat.sequential.ok", "chat.sequential.right"),
            *("chat.sequential.wrong", "chat.stream.p*", "chat.stream.first.p50_ms", "chat.stream.by_model"),
            *("chat.stream.right", "chat.stream.wrong"),
        ),
    ),
    "02": Chapter(
        "Chat service under load",
        "How much can the server sustain, how long do users wait, and does it stay right when more people ask than the "
        "language model can serve?",
        (
            *("load.ab.throughput", "load.ab.p95_ms", "load.locust.p95_ms", "load.locust.right", "load.locust.wrong"),
            *("load.openloop.p95_ms", "load.sweep.*.knee", "load.model.knee", "load.model.locust.p95_ms"),
            *(
                "load.model.locust.wrong",
                "load.soak.memory_growth",
                "load.cost.*.busy.cpu",
                "load.session.*.p95_ms_median",
            ),
        ),
        (CURVE,),
    ),
    "03": Chapter(
        "Fine-tuning",
        "What does a better classifier cost, and what does a language model learn?",
        ("training.*.far_recall", "language.*.against_rules_p"),
        (TRAINING, LANGUAGE),
    ),
    "04": Chapter(
        "Vector search",
        "Does the memory find the right texts, quickly, and only those of the customer who asks?",
        (
            *("vectors.indexed", "vectors.file", "vectors.total.p*", "vectors.search.p*", "vectors.customer.total.p*"),
            *("vectors.bulk_embedding", "vectors.*.hybrid.ndcg", "vectors.answerable.auroc", "vectors.isolated"),
        ),
    ),
    "05": Chapter(
        "Metrics of the server",
        "Does the server report the same latency as its clients measure?",
        (
            *("telemetry.client.p95_ms", "telemetry.histogram.p95_ms", "telemetry.promql.p95_ms"),
            *("telemetry.stream.*", "telemetry.rss"),
        ),
    ),
}
"""Number of a notebook → its section. The pages show them in this order, and then records from elsewhere."""

HEADLINES = {
    "language.packaged.understand_exact": "of the messages become exactly the right tool calls, by the language model",
    "chat.conversations.passed": "of the graded conversations pass: accounts, transfers, hostile input, people in need",
    "chat.sequential.p95_ms": "for one chat without the language model, p95",
    "chat.stream.first.p50_ms": "to the first word of a streamed reply, p50",
    "load.sweep.chat_w1.knee": "sustained by one server process, p95 within its objective",
    "load.model.knee": "at which the language model still serves nine of ten chats",
    "vectors.total.p95_ms": "from a new question to the messages found, p95",
    "load.openloop.p95_ms": "for a chat when customers arrive at a fixed rate, p95",
    "load.ab.throughput": "answered in a closed loop (ab)",
}
"""Id → what the figure is, at the top of the results, the most important first."""
SHOWN = 8
"""Number of headlines."""
FOLDED_FROM = 16
"""Number of lines from which a table is folded."""


@dataclass(frozen=True)
class Section:
    """A chapter with the records and plots of one run."""

    key: str
    chapter: Chapter
    records: list[Record]
    main: list[Record]
    tables: list[ComparisonTable]
    plots: list[Path]


def sections(folder: Path, records: Sequence[Record]) -> list[Section]:
    """The sections of a run that have records or tables. Few records without a chapter are all visible."""
    by_key: dict[str, list[Record]] = {key: [] for key in CHAPTERS}
    for record in records:
        key = record.notebook[:2]
        by_key.setdefault(key if key in CHAPTERS else record.notebook, []).append(record)
    found = []
    for key, members in by_key.items():
        chapter = CHAPTERS.get(key) or Chapter(key.replace("_", " ").capitalize(), main=("*",))
        tables = [table for each in chapter.comparisons if (table := each.of(records)).rows]
        if members or tables:
            main = matching(members, chapter.main)
            plots = sorted((folder / "plots").glob(f"{key}_*.png"))
            found.append(Section(key, chapter, members, main if len(main) < FOLDED_FROM else [], tables, plots))
    return found


def headlines(records: Sequence[Record]) -> list[Record]:
    """The records at the top of the results page: the best accuracy, and the first measured ones of `HEADLINES`."""
    measured = measured_by_id(records)
    best = best_training(records)
    return [*([best] if best else []), *(measured[id] for id in HEADLINES if id in measured)][:SHOWN]


def best_training(records: Sequence[Record]) -> Record | None:
    """The record with the highest accuracy of all training configurations, or None. Of equal values, the first."""
    accuracies = matching(list(measured_by_id(records).values()), ["training.*.accuracy"])
    return max(accuracies, key=lambda record: record.value or 0, default=None)


def matching(records: Sequence[Record], patterns: Sequence[str]) -> list[Record]:
    """The records of any status whose ids match one of the patterns (`fnmatch`), in the order of the patterns."""
    by_id = {record.id: record for pattern in patterns for record in records if fnmatchcase(record.id, pattern)}
    return list(by_id.values())


def measured_by_id(records: Sequence[Record]) -> dict[str, Record]:
    return {record.id: record for record in records if record.status == "measured"}
