"""Where a chat's time goes, from the server's own histogram of its stages: what a scrape before and one after tell."""

from collections.abc import Sequence
from typing import Any, get_args

from bankllm.evidence.statistics.registry import histogram_quantile
from bankllm.lab.prometheus import Sample, bucket_rows, gained
from bankllm.telemetry.metrics import Stage

METRIC = "bankllm_stage_duration_seconds"


def stage_buckets(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    """What each stage's histogram gained: rows of `stage`, `le_ms` and a cumulative `requests`."""
    return [
        {"stage": stage, **row} for stage in get_args(Stage) for row in bucket_rows(before, after, METRIC, stage=stage)
    ]


def stage_times(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    """One row a stage, in the order of a chat: `chats`, `mean_ms`, and `p50_ms` and `p95_ms` as the buckets tell them.

    The means are exact and add up to the whole; the percentiles lie somewhere in their bucket, and do not add up.
    No rows where no chat was answered between the scrapes.
    """
    rows: list[dict[str, Any]] = []
    for stage in get_args(Stage):
        chats = gained(before, after, f"{METRIC}_count", stage=stage)
        if not chats:
            continue
        buckets = [
            {name: str(value) for name, value in row.items()} for row in bucket_rows(before, after, METRIC, stage=stage)
        ]
        row: dict[str, Any] = {"stage": stage, "chats": round(chats)}
        row["mean_ms"] = 1000 * gained(before, after, f"{METRIC}_sum", stage=stage) / chats
        for q in (0.5, 0.95):
            row[f"p{100 * q:.0f}_ms"] = histogram_quantile(buckets, "le_ms", "requests", q).value
        rows.append(row)
    return rows
