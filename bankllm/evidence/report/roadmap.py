"""Figures that others reported, and those that this project was planned with: none of them was measured here.

They stand on the pages under a heading of their own, never in a table with measured numbers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.records import Record

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
"""Published accuracies in % on the full Banking77 test set."""


@dataclass(frozen=True)
class Target:
    """One figure of the roadmap: what it said, and the record that can bear it out."""

    said: str
    what: str
    record: str
    at_least: float | None = None
    at_most: float | None = None
    """Bounds in the record's unit that the figure sets; an accuracy is kept when it is reached."""
    dataset: str | None = None
    """Only a number on these data answers it."""


ROADMAP = (
    Target("89.3 %", "LoRA r=4, accuracy", "training.lora_r4.accuracy", at_least=0.893, dataset="banking77"),
    Target("91.2 %", "LoRA r=8, accuracy", "training.lora_r8.accuracy", at_least=0.912, dataset="banking77"),
    Target("92.1 %", "LoRA r=16, accuracy", "training.lora_r16.accuracy", at_least=0.921, dataset="banking77"),
    Target("90.8 %", "QLoRA r=8, accuracy", "training.qlora_r8.accuracy", at_least=0.908, dataset="banking77"),
    Target("1–2 s", "one chat, p95", "chat.sequential.p95_ms", at_most=2000),
    Target("under 100 ms", "vector search end to end, p95", "vectors.total.p95_ms", at_most=100),
    Target("15,000 or more", "messages indexed", "vectors.indexed", at_least=15000),
    Target("1,243 requests/s", "/health, the highest rate kept up with", "load.sweep.health_w1.knee", at_least=1243),
)
"""What the roadmap wrote down before anything was measured."""


TargetStatus = Literal["kept", "not kept", "cannot be told", "not measured"]


@dataclass(frozen=True)
class JudgedTarget:
    """A target and what became of it."""

    target: Target
    measured: str
    interval: str
    outcome: TargetStatus
    why: str


def judge_targets(records: Iterable[Record], targets: Iterable[Target] = ROADMAP) -> list[JudgedTarget]:
    """One line a target, in their order.

    A target is kept, or not kept, where the whole 95 % interval lies on one side of its bound (the value alone where
    there is no interval); between the two it cannot be told. A number on other data answers nothing.
    """
    by_id = {record.id: record for record in records}
    return [_judge(target, by_id.get(target.record)) for target in targets]


def _judge(target: Target, record: Record | None) -> JudgedTarget:
    if record is None:
        return JudgedTarget(target, "–", "–", "not measured", "this run has no such record")
    if record.status != "measured" or record.value is None:
        return JudgedTarget(target, "–", "–", "not measured", record.invalid_because or record.status)
    dataset = record.conditions.get("dataset")
    if target.dataset and dataset != target.dataset:
        why = f"measured on {dataset}, promised for {target.dataset}"
        return JudgedTarget(target, format_value(record), format_interval(record), "cannot be told", why)
    outcome, why = _against_bounds(target, record.value, record.ci95 or (record.value, record.value))
    return JudgedTarget(target, format_value(record), format_interval(record), outcome, why)


def _against_bounds(target: Target, value: float, ci95: tuple[float, float]) -> tuple[TargetStatus, str]:
    low, high = ci95
    above = target.at_least is None or low >= target.at_least
    below = target.at_most is None or high <= target.at_most
    if above and below:
        return "kept", "the interval lies on the promised side" if low < high else "the value reaches it"
    if (target.at_least is not None and high < target.at_least) or (
        target.at_most is not None and low > target.at_most
    ):
        return "not kept", "the interval lies on the other side" if low < high else "the value misses it"
    return "cannot be told", "the interval holds the promised figure"
