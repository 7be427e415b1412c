"""Repeat a run on this machine and compare each record with the original: `bankllm reproduce RUN_DIR`.

Each record is within the tolerance of its unit, outside it, or not comparable. Quality (accuracy, recall) is compared
on any machine. Speed and memory are compared only if both runs were made on the same machine.
"""

import itertools
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bankllm.errors import RunError
from bankllm.evidence.compare import QUALITY_UNITS, machine_differences, machine_of, record_differences
from bankllm.evidence.format import format_value
from bankllm.evidence.manifest import Manifest, read_manifest
from bankllm.evidence.records import Record, read_records

Reproduction = Literal["within", "outside", "not comparable"]
Repeat = Callable[[str, Sequence[str], dict[str, Any]], tuple[Path, Manifest]]
"""Runs notebooks: (profile, notebook names, parameters) → (new run folder, its manifest)."""

POINTS = 0.02
"""Tolerance of a share without an interval (macro-F1, a hit rate measured once): 2 percentage points."""

ROUNDING = 1e-9
"""Wilson's interval for n of n hits ends at 1 except for the last digit of a float."""

FACTORS = {
    "percentile": 1.5,
    "histogram_quantile": 2.5,
    "mean": 1.5,
    "median": 1.5,
    "maximum": 3.0,
    "throughput": 1.5,
    "goodput": 1.5,
    "rate": 1.5,
    "knee": 1.5,
    "single": 1.5,
    "across": 1.5,
    "growth": 2.0,
}
"""Statistic → the factor by which a time, rate or size may be larger or smaller on the same machine.

A histogram quantile changes by whole buckets, whose bounds grow by a factor of up to 2.5. A maximum varies the most.
"""

EXACT = ("parameters", "messages", "vectors", "texts")
"""Units of counts, which must be equal. A different count means that the code changed."""


@dataclass(frozen=True)
class Reproduced:
    """One record of the original run, and whether the repeated run reproduced it."""

    id: str
    outcome: Reproduction
    why: str


def reproduce(folder: Path, repeat: Repeat) -> tuple[Path, list[Reproduced]]:
    """Runs the finished notebooks of a run again with the same profile and parameters, and compares the records.

    `repeat` runs the notebooks, e.g. `pipeline.run` with a folder for runs. Returns the new run folder and one result
    per record of the original. Raises `RunError` if the original has no finished notebook, or if a notebook fails.
    """
    manifest = read_manifest(folder)
    done = [entry.name for entry in manifest.notebooks if entry.status == "done"]
    if not done:
        raise RunError(
            f"{folder} has no finished notebook, so there is nothing to reproduce. "
            f"Finish it first: bankllm run --resume {manifest.run_id}"
        )
    again, repeated = repeat(manifest.profile, done, parameters_of(manifest.command))
    if failed := [entry.name for entry in repeated.notebooks if entry.status != "done"]:
        raise RunError(f"{again}: {', '.join(failed)} did not finish. Continue with: bankllm run --resume {again.name}")
    return again, judge_repetition(folder, again)


def parameters_of(command: str) -> dict[str, Any]:
    """Returns the notebook parameters that a recorded command set with `-p` or `--parameter`."""
    from bankllm.settings import parse_assignments

    words = shlex.split(command)
    given = [value for option, value in itertools.pairwise(words) if option in ("-p", "--parameter")]
    given += [word.partition("=")[2] for word in words if word.startswith("--parameter=")]
    return parse_assignments(given)


def judge_repetition(folder: Path, again: Path) -> list[Reproduced]:
    """Compares every record of `folder` with the record of the same id in `again`."""
    repeated = {record.id: record for record in read_records(again)}
    machines = machine_differences(machine_of(folder), machine_of(again))
    return [_judge(record, repeated.get(record.id), machines) for record in read_records(folder)]


def _judge(record: Record, again: Record | None, machines: str) -> Reproduced:
    if again is None:
        return Reproduced(record.id, "not comparable", "the repeated run has no record with this id")
    if why := record_differences(record, again):
        return Reproduced(record.id, "not comparable", why)
    if record.value is None or again.value is None:
        return Reproduced(record.id, "not comparable", "no value")
    if record.unit not in QUALITY_UNITS and machines:
        return Reproduced(record.id, "not comparable", machines)
    holds, tolerance = tolerated(record, again)
    why = f"original {format_value(record)}, repeated {format_value(again)}; tolerance: {tolerance}"
    return Reproduced(record.id, "within" if holds else "outside", why)


def tolerated(record: Record, again: Record) -> tuple[bool, str]:
    """Returns whether the new value is within the tolerance, and the tolerance as text. Both must have a value."""
    assert record.value is not None
    assert again.value is not None
    if record.unit in EXACT:
        return record.value == again.value, "equal"
    if record.unit == "p":
        return (record.value < 0.05) == (again.value < 0.05), "the same side of 0.05"
    if record.unit in QUALITY_UNITS:
        if record.ci95:
            low, high = record.ci95
            return low - ROUNDING <= again.value <= high + ROUNDING, "the first run's 95 % interval"
        return abs(again.value - record.value) <= POINTS, f"{100 * POINTS:g} points"
    factor = FACTORS.get(record.statistic or "", 1.5)
    smaller, larger = sorted((abs(record.value), abs(again.value)))
    return larger <= factor * smaller, f"a factor of {factor:g}"
