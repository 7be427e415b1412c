"""Run it again here, and judge each record: within the stated tolerance, outside, or not comparable, and why.

`bankllm reproduce RUN_DIR`. Quality must come out the same wherever it is measured; speed and memory are judged on
the same machine alone.
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

POINTS = 0.02
"""A share without an interval (macro-F1, a hit rate read once) may differ by 2 points."""

ROUNDING = 1e-9
"""Wilson's interval of "all of them" ends at 1 but for the last digit of a float."""

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
"""Statistic → the factor by which times, rates and bytes may differ on the same machine, either way.

A histogram's quantile moves by whole buckets (they grow by up to 2.5 times), a maximum is the least steady of all.
"""

EXACT = ("parameters", "messages", "vectors", "texts")
"""Units of what is counted, not timed: equal, or the code changed."""


@dataclass(frozen=True)
class Reproduced:
    """One record of the original run and what became of it here."""

    id: str
    outcome: Reproduction
    why: str


def reproduce(folder: Path, repeat: Repeat) -> tuple[Path, list[Reproduced]]:
    """Have the same notebooks run with the same profile and parameters; returns the new run and the judgement.

    `repeat` is `pipeline.run` for a folder of runs, told the profile, the notebooks and their parameters.
    Raises `RunError` where the original has no finished notebook, or the repetition fails.
    """
    manifest = read_manifest(folder)
    done = [entry.name for entry in manifest.notebooks if entry.status == "done"]
    if not done:
        raise RunError(f"{folder} has no notebook that is done. Nothing can be reproduced; resume it first.")
    again, repeated = repeat(manifest.profile, done, parameters_of(manifest.command))
    if failed := [entry.name for entry in repeated.notebooks if entry.status != "done"]:
        raise RunError(f"{again}: {', '.join(failed)} failed here. Carry on with bankllm run --resume {again.name}.")
    return again, judge_repetition(folder, again)


def parameters_of(command: str) -> dict[str, Any]:
    """The notebooks' parameters that a recorded command gave with `-p` or `--parameter`."""
    from bankllm.settings import parse_assignments

    words = shlex.split(command)
    given = [value for option, value in itertools.pairwise(words) if option in ("-p", "--parameter")]
    given += [word.partition("=")[2] for word in words if word.startswith("--parameter=")]
    return parse_assignments(given)


def judge_repetition(folder: Path, again: Path) -> list[Reproduced]:
    """Judge every record of `folder` against the one of its id in `again`."""
    found = {record.id: record for record in read_records(again)}
    machines = machine_differences(machine_of(folder), machine_of(again))
    return [_judge(record, found.get(record.id), machines) for record in read_records(folder)]


def _judge(record: Record, again: Record | None, machines: str) -> Reproduced:
    if again is None:
        return Reproduced(record.id, "not comparable", "the repetition has no such record")
    if why := record_differences(record, again):
        return Reproduced(record.id, "not comparable", why)
    if record.value is None or again.value is None:
        return Reproduced(record.id, "not comparable", "no value")
    if record.unit not in QUALITY_UNITS and machines:
        return Reproduced(record.id, "not comparable", machines)
    holds, tolerance = tolerated(record, again)
    shown = f"{format_value(record)} then, {format_value(again)} now; tolerance: {tolerance}"
    return Reproduced(record.id, "within" if holds else "outside", shown)


def tolerated(record: Record, again: Record) -> tuple[bool, str]:
    """Whether the new value is near enough, and by which rule. Both must have a value."""
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
