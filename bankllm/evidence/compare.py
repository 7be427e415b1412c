"""Compare two runs, record by record, only where the conditions are the same, and only as far as intervals allow.

`bankllm report --compare RUN_A RUN_B`. Where both runs answered the same texts, the exact McNemar test decides.
Otherwise the two 95 % intervals must not overlap. That rule is conservative: two intervals that touch are apart at
about the 0.6 % level, so a small true difference may be called none; it will not be made up.
"""

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
FAULTS = ("error", "failed", "suspected", "spread", "late", "cpu_share", "truncated")
"""Words in the id of a record of which less is better."""
PAIRING = ("text_id", "item", "query", "seed", "set", "configuration")
"""Columns that say which text a row answers, where a file has them."""


@dataclass(frozen=True)
class Compared:
    """One record in both runs, the second judged against the first."""

    id: str
    title: str
    a: Record
    b: Record
    outcome: Judgement
    why: str


@dataclass(frozen=True)
class Incomparable:
    """A record that cannot be compared: it stands in one run alone, or under other conditions."""

    id: str
    a: Record | None
    b: Record | None
    why: str


@dataclass(frozen=True)
class Comparison:
    """Two runs: what could be compared, and what stays apart."""

    compared: tuple[Compared, ...]
    incomparable: tuple[Incomparable, ...]

    def lines(self) -> list[str]:
        """As text: one table of what was compared, then what was not, each run's figures on lines of their own."""
        told = [
            f"{entry.outcome:<24}  {entry.id:<40}  {_figure(entry.a)}  ->  {_figure(entry.b)}  ({entry.why})"
            for entry in self.compared
        ]
        if self.incomparable:
            told.append("Not comparable:")
        for entry in self.incomparable:
            told.append(f"{entry.id}: {entry.why}")
            told += [f"    {run} run: {_figure(r)}" for run, r in (("first", entry.a), ("second", entry.b)) if r]
        counts = {outcome: sum(entry.outcome == outcome for entry in self.compared) for outcome in _OUTCOMES}
        summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        return [*told, f"{summary or 'nothing compared'}; {len(self.incomparable)} not comparable"]


_OUTCOMES: tuple[Judgement, ...] = ("better", "worse", "differs", "no detectable difference", "not judged")


def compare(folder_a: Path, folder_b: Path) -> Comparison:
    """Judge the second run against the first. Raises `RunError` where one has no records."""
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
    """1 where more is better, -1 where less is, 0 where neither (a count of rows, a hit rate of a kind of load)."""
    if record.statistic in LOWER_IS_BETTER or any(word in record.id for word in FAULTS):
        return -1
    if record.statistic in HIGHER_IS_BETTER or record.unit.endswith("/s") or record.id.endswith((".ok", "recall")):
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
    """A row a text that both runs answered: what is right and what each said; empty where they are not the same."""
    if a.raw is None or b.raw is None:
        return []
    ours, theirs = read_rows(folder_a, a.raw), read_rows(folder_b, b.raw)
    if len(ours) != len(theirs):
        return []
    actual, predicted = (a.parameters.get(name, name) for name in ("actual", "predicted"))
    pairs = []
    for mine, other in zip(ours, theirs, strict=True):
        if any(mine.get(key) != other.get(key) for key in (actual, *PAIRING)):
            return []
        pairs.append({"actual": mine[actual], "a": mine[predicted], "b": other[predicted]})
    return pairs


def _records(folder: Path) -> dict[str, Record]:
    if not (records := read_records(folder)):
        raise RunError(f"{folder} holds no records. Expected the folder of a run, such as outputs/<run-id>.")
    return {record.id: record for record in records}


def _figure(record: Record) -> str:
    return f"{format_value(record)} [{format_interval(record)}]"


MACHINE = ("cpu", "cores_usable", "cpu_limit", "memory_gib", "memory_limit_gib", "gpus", "machine")
"""Keys of the environment environment_info that make a machine another one."""

NOT_CONDITIONS = ("files", "host")
"""`files` are hashes of what a training wrote, which differ by the last bit; `host` repeats the machine."""

QUALITY_UNITS = ("share", "p", "cosine", "parameters", "texts", "messages", "vectors")
"""Units that do not depend on how fast a machine is."""


def machine_of(folder: Path) -> Mapping[str, Any]:
    """The machine of a run; empty where notebooks were opened by hand and left no manifest."""
    if not (folder / MANIFEST).exists():
        return {}
    environment = read_manifest(folder).environment
    return {key: environment.get(key) for key in MACHINE}


def machine_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """What differs between two machines, in words; empty where nothing does. An unknown machine is like no other."""
    if not a or not b:
        return "machine unknown: the run has no manifest"
    return "; ".join(f"machine: {key} {a[key]} / {b[key]}" for key in MACHINE if a[key] != b[key])


def record_differences(a: Record, b: Record) -> str:
    """What forbids comparing two records of one id, in words; empty where nothing does."""
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
        if (mine := a.conditions.get(key)) != (theirs := b.conditions.get(key)):
            yield f"{key} {mine} / {theirs}"
