"""Export the records of a run in machine-readable formats: results.csv and badges."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from bankllm.evidence.format import format_value
from bankllm.evidence.records import Record
from bankllm.evidence.report.summary import headlines

MEASURED, NOT_MEASURED = "blue", "lightgrey"
"""Badge colours."""


def results_csv(records: Sequence[Record]) -> str:
    """The records as CSV text, one row per record of any status. Values are unrounded and in the record's unit.

    `why` is the reason why a record is invalid, was not measured, or has no interval.
    """
    rows = [_row(record) for record in records]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def badges(records: Sequence[Record]) -> dict[str, str]:
    """File name → JSON text of a shields.io badge, for each headline and for the number of measured records.

    The label of a badge names the data set. Schema: https://shields.io/badges/endpoint-badge
    """
    measured = sum(record.status == "measured" for record in records)
    colour = MEASURED if measured else NOT_MEASURED
    shown = {"records": ("recomputable records", f"{measured} of {len(records)}", colour)}
    for record in headlines(records):
        dataset = str(record.conditions.get("dataset", ""))
        suffix = f" ({dataset})" if dataset and dataset not in record.title else ""
        shown[record.id] = (record.title + suffix, format_value(record), MEASURED)
    return {
        f"{name}.json": json.dumps(
            {"schemaVersion": 1, "label": label, "message": message, "color": color}, ensure_ascii=False
        )
        + "\n"
        for name, (label, message, color) in shown.items()
    }


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
        "raw": record.raw and record.raw.path,
        "raw_sha256": record.raw and record.raw.sha256,
        **{name: record.conditions.get(name) for name in ("dataset", "model", "profile", "host")},
    }
