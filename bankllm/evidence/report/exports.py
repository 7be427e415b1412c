"""The same records for machines: results.csv, results.json, badges for shields.io, a CITATION.cff.

Nothing is rounded here; a badge shows what the pages show.
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
"""Of results.csv: value and interval in the record's unit, all digits; `why` says what is missing or wrong."""

MEASURED, ABSENT = "blue", "lightgrey"


def results_csv(records: Sequence[Record]) -> str:
    """One line a record, whatever its status."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(_row, records))
    return text.getvalue()


def results_json(run: Mapping[str, Any], records: Sequence[Record]) -> str:
    """`{"run": …, "records": […]}`: the same rows, their conditions and the machine beside them."""
    rows = [_row(record) | {"conditions": record.conditions} for record in records]
    return json.dumps({"run": run, "records": rows}, indent=1, ensure_ascii=False, default=str) + "\n"


def badges(records: Sequence[Record]) -> dict[str, str]:
    """File name → JSON of shields.io's endpoint badge, for the headlines and the number of records.

    Schema: https://shields.io/badges/endpoint-badge. A number on Teller77 says so on its label.
    """
    measured = sum(record.status == "measured" for record in records)
    made = {
        "records": _badge("recomputable records", f"{measured} of {len(records)}", MEASURED if measured else ABSENT)
    }
    for record in headlines(records):
        dataset = str(record.conditions.get("dataset", ""))
        where = f" ({dataset})" if dataset and dataset not in record.title else ""
        made[record.id] = _badge(f"{record.title}{where}", format_value(record), MEASURED)
    return {f"{name}.json": text for name, text in made.items()}


def citation(run: Mapping[str, Any], records: Sequence[Record]) -> str:
    """A CITATION.cff (1.2.0) of the run, its strings quoted as JSON, which YAML takes."""
    measured = sum(record.status == "measured" for record in records)
    lines = {
        "cff-version": "1.2.0",
        "message": "If you use these numbers, please cite the run that they were measured in.",
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
