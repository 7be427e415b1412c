"""Compare two runs record by record: `bankllm report --compare RUN_A RUN_B`.

Two values under the same conditions differ if their 95 % intervals do not overlap, a conservative rule: two intervals
that just touch correspond to a significance level of about 0.6 %. If both runs classified the same texts, the exact
McNemar test decides whether their accuracies differ.
"""

import re
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path

from bankllm.errors import RunError
from bankllm.evidence.format import format_interval, format_value
from bankllm.evidence.manifest import MANIFEST, read_manifest
from bankllm.evidence.raw_files import RawFiles
from bankllm.evidence.records import Record, read_records
from bankllm.evidence.statistics.classification import mcnemar
from bankllm.evidence.statistics.statistic import STATISTICS

LOWER_IS_BETTER = re.compile(r"(?<![a-z])(?:error|failed|suspected|spread|late|cpu_share|truncated)s?(?![a-z])")
HIGHER_IS_BETTER = re.compile(r"\.ok$|recall$|\.isolated$")
"""Words in a record's id that tell which value is better. Part of a word (`isolated`, `late`) does not count."""
PAIRING_COLUMNS = ("text_id", "item", "query", "seed", "set", "configuration")
"""Columns that identify the text of a row, in files that have them. Two rows are paired only if these are equal."""
MACHINE = ("cpu", "cores_usable", "cpu_limit", "memory_gib", "memory_limit_gib", "gpus", "machine")
"""Keys of `environment.environment_info` that identify a machine; two machines are the same if all are equal."""
NOT_CONDITIONS = ("files", "host")
"""Conditions that are not compared: hashes of trained weights, which can differ in the last bit, and the machine."""


@dataclass(frozen=True)
class Compared:
    """One record id in two runs. A record is None if its run lacks it."""

    id: str
    a: Record | None
    b: Record | None
    outcome: str
    """`not comparable`, or the result: `better`, `worse`, `differs`, `no detectable difference` or `not judged`."""
    why: str


def compare(folder_a: Path, folder_b: Path) -> list[Compared]:
    """Compares the second run with the first. Raises `RunError` if one of them has no records."""
    return [
        Compared(id, a, b, *(_judge(folder_a, a, folder_b, b) if a and b and not why else ("not comparable", why)))
        for id, a, b, why in pairs(folder_a, folder_b)
    ]


def lines(compared: list[Compared]) -> list[str]:
    """Returns text lines: one per compared record, then the other records with one line per run, then counts."""
    others = [entry for entry in compared if entry.outcome == "not comparable"]
    shown = [
        f"{entry.outcome:<24}  {entry.id:<40}  {_figure(entry.a)}  ->  {_figure(entry.b)}  ({entry.why})"
        for entry in compared
        if entry.a and entry.b and entry not in others
    ]
    for entry in others:
        shown += ["Not comparable:"] if entry is others[0] else []
        shown.append(f"{entry.id}: {entry.why}")
        shown += [f"    {run} run: {_figure(r)}" for run, r in (("first", entry.a), ("second", entry.b)) if r]
    counts = Counter(entry.outcome for entry in compared if entry not in others)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    return [*shown, f"{summary or 'nothing compared'}; {len(others)} not comparable"]


def pairs(
    folder_a: Path, folder_b: Path, machine_free: Container[str] = ()
) -> Iterator[tuple[str, Record | None, Record | None, str]]:
    """Yields id, both records, and why they cannot be compared; empty if they can.

    Only records whose unit is in `machine_free` can be compared if the machines differ.
    """
    first, second = _records(folder_a), _records(folder_b)
    machines = _machine_differences(folder_a, folder_b)
    for id in dict.fromkeys([*first, *second]):
        a, b = first.get(id), second.get(id)
        if a is None or b is None:
            yield id, a, b, f"only in the {'second' if a is None else 'first'} run"
        else:
            yield id, a, b, "; ".join([*_differences(a, b), *(machines if a.unit not in machine_free else ())])


def direction(record: Record) -> int:
    """Returns 1 if a higher value is better, -1 if a lower value is better, and 0 if neither is, as of a count."""
    better = STATISTICS.get(record.statistic).better if record.statistic else None
    if better == "lower" or LOWER_IS_BETTER.search(record.id):
        return -1
    if better == "higher" or record.unit.endswith("/s") or HIGHER_IS_BETTER.search(record.id):
        return 1
    return -1 if record.unit in ("ms", "s", "bytes") else 0


def _machine_differences(folder_a: Path, folder_b: Path) -> list[str]:
    """Describes how the machines of two runs differ. Without a manifest it is unknown."""
    if not all((folder / MANIFEST).exists() for folder in (folder_a, folder_b)):
        return ["machine unknown: the run has no manifest"]
    a, b = (read_manifest(folder).environment for folder in (folder_a, folder_b))
    return [f"machine: {key} {a.get(key)} / {b.get(key)}" for key in MACHINE if a.get(key) != b.get(key)]


def _judge(folder_a: Path, a: Record, folder_b: Path, b: Record) -> tuple[str, str]:
    if a.value is None or b.value is None:
        return "not judged", "no value"
    gain = (b.value - a.value) * direction(a)
    which = "better" if gain > 0 else "worse" if gain < 0 else "differs"
    if a.statistic == "accuracy" and (texts := _paired_texts(folder_a, a, folder_b, b)):
        p = mcnemar(texts, a="a", b="b").value or 0
        why = f"exact McNemar on {len(texts)} texts, p = {p:.2g}"
        return (which if p < 0.05 else "no detectable difference"), why
    if a.ci95 is None or b.ci95 is None:
        if a.value == b.value:
            return "no detectable difference", "the same value"
        return "not judged", f"no interval: {a.why_no_ci95 or b.why_no_ci95}"
    if a.ci95[1] < b.ci95[0] or b.ci95[1] < a.ci95[0]:
        return which, "the intervals do not overlap"
    return "no detectable difference", "the intervals overlap"


def _paired_texts(folder_a: Path, a: Record, folder_b: Path, b: Record) -> list[dict[str, str]]:
    """Returns a row per text with its label and both predictions; empty if the runs did not classify the same texts."""
    assert a.raw
    assert b.raw
    rows_a, rows_b = RawFiles(folder_a).rows(a.raw), RawFiles(folder_b).rows(b.raw)
    same, predicted = ("actual", *PAIRING_COLUMNS), a.parameters.get("predicted", "predicted")
    if [[row.get(key) for key in same] for row in rows_a] != [[row.get(key) for key in same] for row in rows_b]:
        return []
    both = zip(rows_a, rows_b, strict=True)
    return [{"actual": one["actual"], "a": one[predicted], "b": other[predicted]} for one, other in both]


def _differences(a: Record, b: Record) -> Iterator[str]:
    unusable = [f"{r.status}: {r.invalid_because}" if r.status != "measured" else "" for r in (a, b)]
    if unusable[0] and unusable[0] == unusable[1]:
        yield f"{unusable[0]} (both runs)"
    else:
        yield from (f"{why} ({run} run)" for run, why in zip(("first", "second"), unusable, strict=True) if why)
    for field in ("unit", "statistic", "parameters"):
        if getattr(a, field) != getattr(b, field):
            yield f"{field} {getattr(a, field)} / {getattr(b, field)}"
    for key in sorted({*a.conditions, *b.conditions} - set(NOT_CONDITIONS)):
        if (value_a := a.conditions.get(key)) != (value_b := b.conditions.get(key)):
            yield f"{key} {value_a} / {value_b}"


def _records(folder: Path) -> dict[str, Record]:
    if not (records := read_records(folder)):
        raise RunError(f"{folder} holds no records. Expected a run folder, such as outputs/<run-id>.")
    return {record.id: record for record in records}


def _figure(record: Record) -> str:
    return f"{format_value(record)} [{format_interval(record)}]"
