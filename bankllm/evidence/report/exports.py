"""Export the records of a run in machine-readable formats: results.csv, results.json, badges and CITATION.cff.

The CSV and JSON files contain unrounded values. Badges show the rounded values of the report pages.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bankllm import __version__
from bankllm.evidence.format import format_value
from bankllm.evidence.records import Record
from bankllm.evidence.report.summary import headlines

COLUMNS = (
    "id",
    "title",
    "value",
    "unit",
    "ci95_low",
    "ci95_high",
    "n",
    "status",
    "why",
    "statistic",
    "raw",
    "raw_sha256",
    "dataset",
    "model",
    "profile",
    "host",
)
"""Columns of results.csv. Value and interval are unrounded and in the record's unit. `why` is the reason why the record
is invalid, was not measured, or has no interval."""

MEASURED, NOT_MEASURED = "blue", "lightgrey"
"""Badge colours."""


def results_csv(records: Sequence[Record]) -> str:
    """The records as CSV text with the columns `COLUMNS`, one row per record of any status."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_row, records))
    return text.getvalue()


def results_json(run: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The records as JSON text, `{"run": …, "records": […]}`: the rows of the CSV file plus conditions, and the run."""
    rows = [_row(record) | {"conditions": record.conditions} for record in records]
    return json.dumps({"run": run, "records": rows}, indent=1, ensure_ascii=False, default=str) + "\n"


def badges(records: Sequence[Record]) -> dict[str, str]:
    """File name → JSON text of a shields.io badge, for each headline and for the number of measured records.

    The label of a badge names the data set. Schema: https://shields.io/badges/endpoint-badge
    """
    measured = sum(record.status == "measured" for record in records)
    by_name = {
        "records": _badge(
            "recomputable records", f"{measured} of {len(records)}", MEASURED if measured else NOT_MEASURED
        )
    }
    for record in headlines(records):
        dataset = str(record.conditions.get("dataset", ""))
        suffix = f" ({dataset})" if dataset and dataset not in record.title else ""
        by_name[record.id] = _badge(f"{record.title}{suffix}", format_value(record), MEASURED)
    return {f"{name}.json": text for name, text in by_name.items()}


def citation(run: Mapping[str, Any], records: Sequence[Record]) -> str:
    """A CITATION.cff file (format 1.2.0) for the run. Strings are quoted as JSON, which is valid YAML."""
    measured = sum(record.status == "measured" for record in records)
    lines = {
        "cff-version": "1.2.0",
        "message": "If you use these numbers, please cite the run in which they were measured.",
        "type": "dataset",
        "title": f"bankllm run {run['id']}: {measured} measured records with their raw rows",
        "version": __version__,
        "repository-code": REPOSITORY,
    }
    if run["commit"]:
        lines["commit"] = run["commit"]
    text = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in lines.items())
    released = f"date-released: {run['started']:%Y-%m-%d}\n" if run["started"] else ""
    return f'{text}{released}authors:\n  - name: "The bankllm contributors"\n'


REPOSITORY = "https://github.com/bankllm/bankllm"
"""Address of the repository, as in pyproject.toml."""


def _badge(label: str, message: str, color: str) -> str:
    return (
        json.dumps({"schemaVersion": 1, "label": label, "message": message, "color": color}, ensure_ascii=False) + "\n"
    )


def _row(record: Record) -> dict[str, Any]:
    low, high = record.ci95 or (None, None)
    return {
        "id": record.id,
        "title": record.title,
        "value": record.value,
        "unit": record.unit,
        "ci95_low": low,
        "ci95_high": high,
        "n": record.n,
        "status": record.status,
        "why": record.invalid_because or record.why_no_ci95,
        "statistic": record.statistic,
        "raw": record.raw.path if record.raw else None,
        "raw_sha256": record.raw.sha256 if record.raw else None,
        **{name: record.conditions.get(name) for name in ("dataset", "model", "profile", "host")},
    }
