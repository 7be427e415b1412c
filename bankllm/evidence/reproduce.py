"""Repeat a run on this machine and compare each record with the original: `bankllm reproduce RUN_DIR`.

Each record is within the tolerance of its statistic, outside it, or not comparable. Quality (accuracy, recall) is
compared on any machine. Speed and memory are compared only if both runs were made on the same machine.
"""

import itertools
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bankllm.errors import RunError
from bankllm.evidence.compare import pairs
from bankllm.evidence.format import COUNTED, format_value
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import Record, read_records
from bankllm.evidence.statements import Outcome, RepeatedRecord, Reproduction, facts_of
from bankllm.evidence.statistics.statistic import STATISTICS
from bankllm.settings import parse_assignments

POINTS = 0.02
"""Tolerance of a share without an interval (macro-F1, a hit rate measured once): 2 percentage points."""
ROUNDING = 1e-9
"""Wilson's interval for n of n hits ends at 1 except for the last digit of a float."""
EXACT = tuple(unit for unit in COUNTED if unit != "requests")
"""Units of counts, which must be equal. A different count means that the code changed."""
QUALITY_UNITS = ("share", "p", "cosine", *EXACT)
"""Units of records that do not depend on the speed of the machine."""

SPREAD: dict[str, Callable[[Sequence[float]], float]] = {"median": median, "max": max}


def repetition_of(folder: Path) -> dict[str, Any]:
    """Returns the arguments profile, only (the finished notebooks) and parameters of `pipeline.run` that repeat a run.

    Raises `RunError` if it has no finished notebook.
    """
    manifest = read_manifest(folder)
    done = [entry.name for entry in manifest.notebooks if entry.status == "done"]
    if not done:
        raise RunError(
            f"{folder} has no finished notebook, so there is nothing to reproduce. "
            f"Finish it first: bankllm run --resume {manifest.run_id}"
        )
    words = [word.split("=", 1) if word.startswith("--") else [word] for word in shlex.split(manifest.command)]
    options = list(itertools.pairwise(itertools.chain(*words)))
    given = [value for option, value in options if option in ("-p", "--parameter")]
    given += [f"price_per_hour={value}" for option, value in options if option == "--price-per-hour"]
    return {"profile": manifest.profile, "only": done, "parameters": parse_assignments(given)}


def judge_repetition(folder: Path, again: Path) -> list[RepeatedRecord]:
    """Returns one result per record of the original run in `folder`."""
    judged = []
    for id, record, repeated, why in pairs(folder, again, machine_free=QUALITY_UNITS):
        if record is None:
            continue
        first, second = record.value, repeated.value if repeated else None
        outcome: Outcome = "not comparable"
        if not why and repeated and first is not None and second is not None:
            holds, tolerance = _tolerated(record, first, second)
            outcome = "within" if holds else "outside"
            why = f"original {format_value(record)}, repeated {format_value(repeated)}; tolerance: {tolerance}"
        judged.append(RepeatedRecord(id=id, outcome=outcome, why=why or "no value", original=first, repeated=second))
    return judged


def reproduction_of(folder: Path, again: Path) -> Reproduction:
    """Returns the predicate of the statement that the run in `again` repeats the one in `folder`."""
    judged = judge_repetition(folder, again)
    return Reproduction(
        run=facts_of(folder),
        repeated=facts_of(again),
        verdict=dict(Counter(one.outcome for one in judged)),
        spread=spread(judged, {record.id: record for record in read_records(folder)}),
        records=judged,
    )


def reproduction_faults(folder: Path, claimed: Reproduction) -> Iterator[str]:
    """Yields what is wrong in a reproduction of the run in `folder`: outcomes, counts and spread are computed again."""
    records = {record.id: record for record in read_records(folder)}
    if [one.id for one in claimed.records] != list(records):
        yield "does not have one result for each record of this run"
        return
    for one in claimed.records:
        record = records[one.id]
        if one.original != record.value:
            yield f"{one.id}: the original value is {record.value}, not {one.original}"
        elif one.outcome != "not comparable":
            if record.value is None or one.repeated is None:
                yield f"{one.id}: {one.outcome} the tolerance, but a value is missing"
            elif (one.outcome == "within") != _tolerated(record, record.value, one.repeated)[0]:
                yield f"{one.id}: {one.repeated} is not {one.outcome} the tolerance of {record.value}"
    if claimed.verdict != Counter(one.outcome for one in claimed.records):
        yield "its counts are not those of its records"
    elif claimed.spread != spread(claimed.records, records):
        yield "its spread is not that of its records"


def spread(repeated: Sequence[RepeatedRecord], records: Mapping[str, Record]) -> dict[str, float]:
    """Returns how far the compared values lie apart, as median and maximum; without the keys that no record has.

    `share_…` is the difference of shares (0 … 1), and `factor_…` the larger value divided by the smaller one.
    """
    found: dict[str, list[float]] = {"share": [], "factor": []}
    for one in repeated:
        if one.outcome != "not comparable" and one.original is not None and one.repeated is not None:
            smaller, larger = sorted((abs(one.original), abs(one.repeated)))
            if records[one.id].unit == "share":
                found["share"].append(round(abs(one.repeated - one.original), 9))
            elif records[one.id].unit not in QUALITY_UNITS and smaller:
                found["factor"].append(round(larger / smaller, 9))
    return {f"{key}_{what}": of(seen) for key, seen in found.items() if seen for what, of in SPREAD.items()}


def _tolerated(record: Record, first: float, again: float) -> tuple[bool, str]:
    """Returns whether the new value is within the tolerance, and the tolerance as text."""
    tolerance = STATISTICS.get(str(record.statistic)).tolerance
    if record.unit in EXACT:
        return first == again, "equal"
    if record.unit == "p":
        return (first < 0.05) == (again < 0.05), "the same side of 0.05"
    if record.unit not in QUALITY_UNITS:
        smaller, larger = sorted((abs(first), abs(again)))
        return larger <= tolerance * smaller, f"a factor of {tolerance:g}"
    if record.ci95:
        low, high = record.ci95
        return low - ROUNDING <= again <= high + ROUNDING, "the first run's 95 % interval"
    points = tolerance if tolerance < 1 else POINTS
    return abs(again - first) <= points, f"{100 * points:g} points"
