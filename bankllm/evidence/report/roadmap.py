"""The original roadmap's claims, and how the measured records compare with them.

The roadmap, the first plan of this project, stated results before any code had been run. Only `ROADMAP` quotes them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.records import Record
from bankllm.evidence.report.summary import matching


@dataclass(frozen=True)
class Target:
    """One claim of the roadmap, as it was written, and the record that can confirm or contradict it.

    The roadmap wanted some quantities to be measured without saying a value; such a target has no bounds.
    """

    claimed: str
    quantity: str
    record_id: str
    """A pattern (`fnmatch`); the first matching record counts, so of several seeds the first."""
    at_least: float = -math.inf
    at_most: float = math.inf
    """Bounds in the unit of the record."""
    dataset: str | None = None
    """Data set of the claim; a measurement on another data set cannot decide it. None: any data set."""
    users: int | None = None
    """Number of users of the claim; a measurement with another number cannot decide it. None: any number."""


NO_VALUE = "no value"
ACCURACIES = {"LoRA r=4": "89.3 %", "LoRA r=8": "91.2 %", "LoRA r=16": "92.1 %", "LoRA r=32": "", "QLoRA r=8": "90.8 %"}
"""Accuracy of the fine-tuned model, on Banking77."""


def _accuracies(of: str, records: str, rank: str) -> Iterator[Target]:
    """The claims about the accuracy; `{}` in `records` is the method with `rank` before the rank, such as `lora_r4`."""
    for name, claimed in ACCURACIES.items():
        id = records.format(name.lower().replace(" r=", rank))
        bound = float(claimed[:-2]) / 100 if claimed else -math.inf
        yield Target(claimed or NO_VALUE, f"{of}{name}, accuracy", id, at_least=bound, dataset="banking77")


ROADMAP = (
    *_accuracies("", "training.{}.accuracy", "_r"),
    *_accuracies("language model ", "training.smollm2_{}.accuracy", "_r_"),
    Target(NO_VALUE, "language model, exactly right tool calls", "language.packaged.understand_exact"),
    Target(NO_VALUE, "language model, tokens per second", "language.packaged.tokens_per_s"),
    Target(NO_VALUE, "language model, training time", "language.lora_r8*.train_s"),
    Target("1–2 s", "one chat, p95", "chat.sequential.p95_ms", at_most=2000),
    Target("1–2 s", "one chat with the language model, p95", "chat.stream.p95_ms", at_most=2000),
    Target("under 500 ms", "chat with 100 users (Locust), p95", "load.locust.p95_ms", at_most=500, users=100),
    Target(
        "under 500 ms",
        "chat with 100 users and the language model, p95",
        "load.model.locust.p95_ms",
        at_most=500,
        users=100,
    ),
    Target("1,243 requests/s", "/health, highest sustained rate", "load.sweep.health_w1.knee", at_least=1243),
    Target("under 100 ms", "vector search end to end, p95", "vectors.total.p95_ms", at_most=100),
    Target("15,000 or more", "messages indexed", "vectors.indexed", at_least=15000),
)


@dataclass(frozen=True)
class JudgedTarget:
    """A target, the result of the comparison, and the measured record, if there is one."""

    target: Target
    status: Literal["met", "not met", "undecided", "not measured", "measured"]
    """`measured`: the roadmap had no value to compare with."""
    why: str
    record: Record | None = None

    @property
    def measured(self) -> str:
        """The measured value as text."""
        return format_value(self.record) if self.record else "–"

    @property
    def interval(self) -> str:
        """The 95 % interval as text."""
        return format_interval(self.record) if self.record else "–"


def judge_targets(records: Sequence[Record], targets: Sequence[Target] = ROADMAP) -> list[JudgedTarget]:
    """Compare each target with its record, in the same order.

    A target is `met` or `not met` if the whole 95 % interval, or the value without one, is on one side of the claimed
    value. It is `undecided` if the interval contains that value, or if the record is of another
    data set or number of users.
    """
    return [_judge(target, next(iter(matching(records, [target.record_id])), None)) for target in targets]


def _judge(target: Target, record: Record | None) -> JudgedTarget:
    if record is None:
        return JudgedTarget(target, "not measured", "this run has no such record")
    if record.status != "measured" or record.value is None:
        return JudgedTarget(target, "not measured", record.invalid_because or record.status)
    dataset = record.conditions.get("dataset") or record.conditions.get("corpus")
    if target.at_least == -math.inf and target.at_most == math.inf:
        return JudgedTarget(target, "measured", "the roadmap has no value to compare with", record)
    if target.dataset and dataset != target.dataset:
        return JudgedTarget(target, "undecided", f"measured on {dataset}, claimed for {target.dataset}", record)
    if target.users and (users := record.conditions.get("users")) != target.users:
        return JudgedTarget(target, "undecided", f"measured with {users} users, claimed for {target.users}", record)
    low, high = record.ci95 or (record.value, record.value)
    subject = "interval" if low < high else "value"
    if target.at_least <= low and high <= target.at_most:
        return JudgedTarget(target, "met", f"the {subject} meets the claimed value", record)
    if high < target.at_least or low > target.at_most:
        return JudgedTarget(target, "not met", f"the {subject} misses the claimed value", record)
    return JudgedTarget(target, "undecided", "the interval contains the claimed value", record)
