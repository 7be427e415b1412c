"""The original roadmap's claims, and how the measured records compare with them.

The roadmap, the first plan of this project, stated results before any code had been run. Only `ROADMAP` quotes them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.records import Record


@dataclass(frozen=True)
class Target:
    """One claim of the roadmap, as it was written, and the record that can confirm or contradict it."""

    claimed: str
    quantity: str
    record_id: str
    at_least: float = -math.inf
    at_most: float = math.inf
    """Bounds in the unit of the record."""
    dataset: str | None = None
    """Data set of the claim; a measurement on another data set cannot decide it. None: any data set."""


ROADMAP = (
    Target("89.3 %", "LoRA r=4, accuracy", "training.lora_r4.accuracy", at_least=0.893, dataset="banking77"),
    Target("91.2 %", "LoRA r=8, accuracy", "training.lora_r8.accuracy", at_least=0.912, dataset="banking77"),
    Target("92.1 %", "LoRA r=16, accuracy", "training.lora_r16.accuracy", at_least=0.921, dataset="banking77"),
    Target("90.8 %", "QLoRA r=8, accuracy", "training.qlora_r8.accuracy", at_least=0.908, dataset="banking77"),
    Target("1–2 s", "one chat, p95", "chat.sequential.p95_ms", at_most=2000),
    Target("under 100 ms", "vector search end to end, p95", "vectors.total.p95_ms", at_most=100),
    Target("15,000 or more", "messages indexed", "vectors.indexed", at_least=15000),
    Target("1,243 requests/s", "/health, highest sustained rate", "load.sweep.health_w1.knee", at_least=1243),
)


@dataclass(frozen=True)
class JudgedTarget:
    """A target, the result of the comparison, and the measured value and its 95 % interval as text."""

    target: Target
    status: Literal["met", "not met", "undecided", "not measured"]
    why: str
    measured: str = "–"
    interval: str = "–"


def judge_targets(records: Iterable[Record], targets: Iterable[Target] = ROADMAP) -> list[JudgedTarget]:
    """Compare each target with its record, in the same order.

    A target is `met` or `not met` if the whole 95 % interval, or the value without one, is on one side of the claimed
    value. It is `undecided` if the interval contains that value, or if the record is of another data set.
    """
    by_id = {record.id: record for record in records}
    return [_judge(target, by_id.get(target.record_id)) for target in targets]


def _judge(target: Target, record: Record | None) -> JudgedTarget:
    if record is None:
        return JudgedTarget(target, "not measured", "this run has no such record")
    if record.status != "measured" or record.value is None:
        return JudgedTarget(target, "not measured", record.invalid_because or record.status)
    shown = format_value(record), format_interval(record)
    dataset = record.conditions.get("dataset")
    if target.dataset and dataset != target.dataset:
        return JudgedTarget(target, "undecided", f"measured on {dataset}, claimed for {target.dataset}", *shown)
    low, high = record.ci95 or (record.value, record.value)
    subject = "interval" if low < high else "value"
    if target.at_least <= low and high <= target.at_most:
        return JudgedTarget(target, "met", f"the {subject} meets the claimed value", *shown)
    if high < target.at_least or low > target.at_most:
        return JudgedTarget(target, "not met", f"the {subject} misses the claimed value", *shown)
    return JudgedTarget(target, "undecided", "the interval contains the claimed value", *shown)
