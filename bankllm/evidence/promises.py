"""Hold what was promised against what was measured: kept, not kept, cannot be told, or not measured, and why."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bankllm.evidence.format import show_interval, show_value
from bankllm.evidence.records import Record
from bankllm.evidence.report.roadmap import ROADMAP, Promise

Outcome = Literal["kept", "not kept", "cannot be told", "not measured"]


@dataclass(frozen=True)
class Judged:
    """A promise and what became of it."""

    promise: Promise
    measured: str
    interval: str
    outcome: Outcome
    why: str


def judge_promises(records: Iterable[Record], promises: Iterable[Promise] = ROADMAP) -> list[Judged]:
    """One line a promise, in their order.

    A promise is kept, or not kept, where the whole 95 % interval lies on one side of its bound (the value alone where
    there is no interval); between the two it cannot be told. A number on other data answers nothing.
    """
    by_id = {record.id: record for record in records}
    return [_judge(promise, by_id.get(promise.record)) for promise in promises]


def _judge(promise: Promise, record: Record | None) -> Judged:
    if record is None:
        return Judged(promise, "–", "–", "not measured", "this run has no such record")
    if record.status != "measured" or record.value is None:
        return Judged(promise, "–", "–", "not measured", record.invalid_because or record.status)
    dataset = record.conditions.get("dataset")
    if promise.dataset and dataset != promise.dataset:
        why = f"measured on {dataset}, promised for {promise.dataset}"
        return Judged(promise, show_value(record), show_interval(record), "cannot be told", why)
    outcome, why = _against_bounds(promise, record.value, record.ci95 or (record.value, record.value))
    return Judged(promise, show_value(record), show_interval(record), outcome, why)


def _against_bounds(promise: Promise, value: float, ci95: tuple[float, float]) -> tuple[Outcome, str]:
    low, high = ci95
    above = promise.at_least is None or low >= promise.at_least
    below = promise.at_most is None or high <= promise.at_most
    if above and below:
        return "kept", "the interval lies on the promised side" if low < high else "the value reaches it"
    if (promise.at_least is not None and high < promise.at_least) or (
        promise.at_most is not None and low > promise.at_most
    ):
        return "not kept", "the interval lies on the other side" if low < high else "the value misses it"
    return "cannot be told", "the interval holds the promised figure"
