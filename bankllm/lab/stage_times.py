"""Time per stage of a chat, from the server's histogram of stages in a scrape before and one after a load."""

from collections.abc import Sequence
from typing import Any, get_args

from bankllm.evidence.statistics.registry import histogram_quantile
from bankllm.lab.prometheus import Sample, bucket_rows, gained
from bankllm.telemetry.metrics import Stage

METRIC = "bankllm_stage_duration_seconds"


def stage_buckets(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return the increase of each stage's histogram: rows of `stage`, `le_ms` and a cumulative `requests`."""
    return [
        {"stage": stage, **row} for stage in get_args(Stage) for row in bucket_rows(before, after, METRIC, stage=stage)
    ]


def stage_times(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return one row per stage, in the order of a chat: `stage`, `chats`, `mean_ms`, `p50_ms` and `p95_ms`.

    The means are exact, and their sum is the mean of the whole chat. The percentiles are interpolated within a bucket,
    and their sum has no meaning; they are None with too few chats. Without chats between the scrapes there are no rows.
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
