"""Turn a run's records into pages: RESULTS.md, RESULTS.html (plots inline) and RESUME.md.

Every number on a page comes from a record; what was not measured says so. `bankllm report RUN` does it again.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from bankllm.errors import RunError
from bankllm.evidence.manifest import MANIFEST, read_manifest
from bankllm.evidence.records import Record, data_of, models_of, read_records, write_text
from bankllm.evidence.words import describe_how, show_interval, show_value

SECTIONS = {
    "chat": "Chat service, one request at a time",
    "load": "Chat service under load",
    "training": "Fine-tuning",
    "vectors": "Vector search",
    "telemetry": "What the server says of itself",
}
"""First part of a record's id → heading, in the order of the pages."""

TRAINING_COLUMNS = {
    "accuracy": "accuracy",
    "accuracy_over_seeds": "mean of the seeds",
    "macro_f1": "macro-F1",
    "train_s": "training",
    "peak_memory": "peak memory",
    "trainable": "trainable",
    "adapter": "artefact",
}
"""Last part of a training record's id → column of the table that compares the configurations."""

HEADLINES = ("chat.sequential.p95_ms", "load.ab.throughput", "load.locust.p95_ms", "vectors.total.p95_ms")
"""Records that the head of the results page shows after the best accuracy, where they were measured."""

REPORTED_BY_OTHERS = (
    ("claimed leaderboard best", 94.94),
    ("RoBERTa-large, full fine-tune", 94.32),
    ("BERT-large tuned (arXiv 2003.04807)", 93.66),
    ("bge-small frozen + linear SVC", 93.08),
    ("LoRA on RoBERTa-base", 92.05),
    ("Qwen3-8B QLoRA r=16 (A100)", 91.85),
    ("Llama-3.2-1B QLoRA (T4, about 50 min)", 90.21),
    ("DistilBERT LoRA r=8 (T4, about 3 h)", 88.25),
)
"""Published accuracies in % on the full Banking77 test set; none of them was measured here."""


@dataclass(frozen=True)
class Section:
    """One table of the results page."""

    title: str
    records: tuple[Record, ...]
    plots: tuple[Path, ...]


def render(folder: Path) -> list[Path]:
    """Write the three pages into the run's folder. Raises `RunError` where there are no records."""
    records = read_records(folder)
    if not records:
        raise RunError(f"{folder} holds no records. Run the other notebooks first (bankllm run).")
    environment = Environment(
        loader=PackageLoader("bankllm.evidence"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: bool(name and ".html" in name),
        keep_trailing_newline=True,
    )
    environment.filters |= {"value": show_value, "interval": show_interval, "figure": _inline, "how": describe_how}
    context = {
        "run": _about(folder, records),
        "sections": sections(folder, records),
        "headlines": headlines(records),
        "training": (training := training_table(records)),
        "training_columns": {
            column: title
            for column, title in TRAINING_COLUMNS.items()
            if any(column in row for row in training.values())
        },
        "others": REPORTED_BY_OTHERS,
        "on_banking77": any(
            r.id.startswith("training.") and r.conditions.get("dataset") == "banking77" for r in records
        ),
        "missing": [record for record in records if record.status != "measured"],
        "record": {record.id: record for record in records if record.status == "measured"},
    }
    pages = []
    for name in ("RESULTS.md", "RESULTS.html", "RESUME.md"):
        write_text(folder / name, environment.get_template(f"{name}.j2").render(context))
        pages.append(folder / name)
    return pages


def sections(folder: Path, records: Sequence[Record]) -> list[Section]:
    """The records by the first part of their id, in the pages' order, with their notebooks' plots."""
    plots = sorted((folder / "plots").glob("*.png"))
    found = []
    for prefix, title in SECTIONS.items():
        mine = tuple(record for record in records if record.id.split(".")[0] == prefix)
        numbers = {record.notebook[:2] for record in mine}
        if mine:
            found.append(Section(title, mine, tuple(plot for plot in plots if plot.name[:2] in numbers)))
    return found


def headlines(records: Sequence[Record]) -> list[Record]:
    """The few numbers that a reader in a hurry looks for."""
    measured = {record.id: record for record in records if record.status == "measured"}
    accuracies = [record for id, record in measured.items() if id.startswith("training.") and id.endswith(".accuracy")]
    best = sorted(accuracies, key=lambda record: record.value or 0, reverse=True)[:1]
    return [*best, *(measured[id] for id in HEADLINES if id in measured)]


def training_table(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """Configuration → column → record, for ids `training.<configuration>.<column>`."""
    table: dict[str, dict[str, Record]] = {}
    for record in records:
        parts = record.id.split(".")
        if parts[0] == "training" and len(parts) == 3 and parts[2] in TRAINING_COLUMNS:
            table.setdefault(record.conditions.get("configuration", parts[1]), {})[parts[2]] = record
    return table


def _about(folder: Path, records: Sequence[Record]) -> dict[str, Any]:
    """What the head of a page says: which run, where, on what; less where notebooks were opened by hand."""
    about: dict[str, Any] = {
        "id": folder.name,
        "profile": records[0].conditions["profile"],
        "host": records[0].conditions["host"],
        "datasets": data_of(records),
        "models": models_of(records),
        "commit": None,
        "dirty": None,
        "environment": {},
        "started": None,
    }
    if (folder / MANIFEST).exists():
        manifest = read_manifest(folder)
        about |= {
            "id": manifest.run_id,
            "commit": manifest.git_commit,
            "dirty": manifest.git_dirty,
            "environment": manifest.environment,
            "started": manifest.started,
        }
    return about


def _inline(path: Path) -> str:
    """A picture as a data URI, so that the page is one file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
