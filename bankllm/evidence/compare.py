"""Compare two runs record by record: `bankllm report --compare RUN_A RUN_B`.

Only records that were measured under the same conditions are compared. If both runs classified the same texts, the
exact McNemar test decides whether two accuracies differ. Otherwise two values differ if their 95 % intervals do not
overlap. The overlap rule is conservative: two intervals that just touch correspond to a significance level of about
0.6 %, so the rule can miss a small difference but rarely reports one that does not exist.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bankllm.errors import RunError
from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import Record, read_records, read_rows
from bankllm.evidence.seal import MANIFEST
from bankllm.evidence.statistics.registry import STATISTICS

Judgement = Literal["better", "worse", "differs", "no detectable difference", "not judged"]

LOWER_IS_BETTER = ("expected_calibration_error", "aurc", "rejected", "accuracy_sd_over_seeds", "growth")
HIGHER_IS_BETTER = (
    "accuracy",
    "accuracy_over_seeds",
    "macro_f1",
    "auroc",
    "recall_at_false_rejects",
    "throughput",
    "goodput",
    "rate",
    "knee",
)
LOWER_IS_BETTER_WORDS = re.compile(r"(?<![a-z])(?:error|failed|suspected|spread|late|cpu_share|truncated)s?(?![a-z])")
"""If a record's id contains one of these words, a lower value is better. Part of a word (`isolated`) does not count."""
PAIRING_COLUMNS = ("text_id", "item", "query", "seed", "set", "configuration")
"""Columns that identify the text of a row, in files that have them. Two rows are paired only if these are equal."""


@dataclass(frozen=True)
class Compared:
    """A record that both runs have, and whether its value in run `b` is better or worse than in run `a`."""

    id: str
    title: str
    a: Record
    b: Record
    outcome: Judgement
    why: str


@dataclass(frozen=True)
class Incomparable:
    """A record that cannot be compared: only one run has it, or the conditions differ."""

    id: str
    a: Record | None
    b: Record | None
    why: str


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two runs."""

    compared: tuple[Compared, ...]
    incomparable: tuple[Incomparable, ...]

    def lines(self) -> list[str]:
        """Returns text lines: one per compared record, then the other records with one line per run, then counts."""
        lines = [
            f"{entry.outcome:<24}  {entry.id:<40}  {_figure(entry.a)}  ->  {_figure(entry.b)}  ({entry.why})"
            for entry in self.compared
        ]
        if self.incomparable:
            lines.append("Not comparable:")
        for entry in self.incomparable:
            lines.append(f"{entry.id}: {entry.why}")
            lines += [f"    {run} run: {_figure(r)}" for run, r in (("first", entry.a), ("second", entry.b)) if r]
        counts = {outcome: sum(entry.outcome == outcome for entry in self.compared) for outcome in _OUTCOMES}
        summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        return [*lines, f"{summary or 'nothing compared'}; {len(self.incomparable)} not comparable"]


_OUTCOMES: tuple[Judgement, ...] = ("better", "worse", "differs", "no detectable difference", "not judged")


def compare(folder_a: Path, folder_b: Path) -> Comparison:
    """Compares the second run with the first. Raises `RunError` if one of them has no records."""
    first, second = _records(folder_a), _records(folder_b)
    machines = machine_differences(machine_of(folder_a), machine_of(folder_b))
    compared, incomparable = [], []
    for id in dict.fromkeys([*first, *second]):
        a, b = first.get(id), second.get(id)
        if a is None or b is None:
            incomparable.append(Incomparable(id, a, b, f"only in the {'second' if a is None else 'first'} run"))
        elif why := "; ".join(filter(None, (record_differences(a, b), machines))):
            incomparable.append(Incomparable(id, a, b, why))
        else:
            outcome, why = _judge(folder_a, a, folder_b, b)
            compared.append(Compared(id, a.title, a, b, outcome, why))
    return Comparison(tuple(compared), tuple(incomparable))


def direction(record: Record) -> int:
    """Returns 1 if a higher value is better, -1 if a lower value is better, and 0 if neither is.

    A count of rows and the cache hit rate of a workload are examples of 0.
    """
    if record.statistic in LOWER_IS_BETTER or LOWER_IS_BETTER_WORDS.search(record.id):
        return -1
    if (
        record.statistic in HIGHER_IS_BETTER
        or record.unit.endswith("/s")
        or record.id.endswith((".ok", "recall", ".isolated"))
    ):
        return 1
    if record.unit in ("ms", "s", "bytes"):
        return -1
    return 0


def _judge(folder_a: Path, a: Record, folder_b: Path, b: Record) -> tuple[Judgement, str]:
    if a.value is None or b.value is None:
        return "not judged", "no value"
    if a.statistic == "accuracy" and (pairs := _pairs(folder_a, a, folder_b, b)):
        p = STATISTICS["mcnemar"](pairs, a="a", b="b").value
        if p is not None and p >= 0.05:
            return "no detectable difference", f"exact McNemar on {len(pairs)} texts, p = {p:.2g}"
        return _which(a, b), f"exact McNemar on {len(pairs)} texts, p = {p:.2g}"
    if a.ci95 is None or b.ci95 is None:
        if a.value == b.value:
            return "no detectable difference", "the same value"
        return "not judged", f"no interval: {a.why_no_ci95 or b.why_no_ci95}"
    if a.ci95[1] < b.ci95[0] or b.ci95[1] < a.ci95[0]:
        return _which(a, b), "the intervals do not overlap"
    return "no detectable difference", "the intervals overlap"


def _which(a: Record, b: Record) -> Judgement:
    gain = ((b.value or 0) - (a.value or 0)) * direction(a)
    return "better" if gain > 0 else "worse" if gain < 0 else "differs"


def _pairs(folder_a: Path, a: Record, folder_b: Path, b: Record) -> list[dict[str, str]]:
    """Returns one row per text with its label (`actual`) and the predictions of both runs (`a`, `b`).

    Empty if the two runs did not classify the same texts in the same order.
    """
    if a.raw is None or b.raw is None:
        return []
    rows_a, rows_b = read_rows(folder_a, a.raw), read_rows(folder_b, b.raw)
    if len(rows_a) != len(rows_b):
        return []
    actual, predicted = (a.parameters.get(name, name) for name in ("actual", "predicted"))
    pairs = []
    for row_a, row_b in zip(rows_a, rows_b, strict=True):
        if any(row_a.get(key) != row_b.get(key) for key in (actual, *PAIRING_COLUMNS)):
            return []
        pairs.append({"actual": row_a[actual], "a": row_a[predicted], "b": row_b[predicted]})
    return pairs


def _records(folder: Path) -> dict[str, Record]:
    if not (records := read_records(folder)):
        raise RunError(f"{folder} holds no records. Expected a run folder, such as outputs/<run-id>.")
    return {record.id: record for record in records}


def _figure(record: Record) -> str:
    return f"{format_value(record)} [{format_interval(record)}]"


MACHINE = ("cpu", "cores_usable", "cpu_limit", "memory_gib", "memory_limit_gib", "gpus", "machine")
"""Keys of `environment.environment_info` that identify a machine; two machines are the same if all are equal."""

NOT_CONDITIONS = ("files", "host")
"""Keys of `Record.conditions` that are not compared.

`files` holds hashes of trained weights, which can differ in the last bit. `host` repeats the machine.
"""

QUALITY_UNITS = ("share", "p", "cosine", "parameters", "texts", "messages", "vectors")
"""Units of records that do not depend on the speed of the machine."""


def machine_of(folder: Path) -> Mapping[str, Any]:
    """Returns the keys `MACHINE` of a run; empty if the run has no manifest (notebooks opened by hand write none)."""
    if not (folder / MANIFEST).exists():
        return {}
    environment = read_manifest(folder).environment
    return {key: environment.get(key) for key in MACHINE}


def machine_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Describes how two machines differ; empty if they are the same. An unknown machine never counts as the same."""
    if not a or not b:
        return "machine unknown: the run has no manifest"
    return "; ".join(f"machine: {key} {a[key]} / {b[key]}" for key in MACHINE if a[key] != b[key])


def record_differences(a: Record, b: Record) -> str:
    """Describes why two records with the same id cannot be compared; empty if they can."""
    return "; ".join(_differences(a, b))


def _differences(a: Record, b: Record) -> Iterator[str]:
    unusable = {
        name: f"{record.status}: {record.invalid_because}"
        for name, record in (("first", a), ("second", b))
        if record.status != "measured"
    }
    if len(set(unusable.values())) == 1 and len(unusable) == 2:
        yield f"{unusable['first']} (both runs)"
    else:
        yield from (f"{why} ({name} run)" for name, why in unusable.items())
    for field in ("unit", "statistic", "parameters"):
        if getattr(a, field) != getattr(b, field):
            yield f"{field} {getattr(a, field)} / {getattr(b, field)}"
    for key in sorted({*a.conditions, *b.conditions} - set(NOT_CONDITIONS)):
        if (value_a := a.conditions.get(key)) != (value_b := b.conditions.get(key)):
            yield f"{key} {value_a} / {value_b}"
