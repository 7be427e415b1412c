"""Repeat a run on this machine and compare each record with the original: `bankllm reproduce RUN_DIR`.

Each record is within the tolerance of its statistic, outside it, or not comparable. Quality (accuracy, recall) is
compared on any machine. Speed and memory are compared only if both runs were made on the same machine.
"""

import itertools
import shlex
from pathlib import Path
from typing import Any

from bankllm.errors import RunError
from bankllm.evidence.compare import Compared, pairs
from bankllm.evidence.format import COUNTED, format_value
from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import Record
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


def judge_repetition(folder: Path, again: Path) -> list[Compared]:
    """Returns one result per record of the original run in `folder`."""
    judged = []
    for id, record, repeated, why in pairs(folder, again, machine_free=QUALITY_UNITS):
        if record is None:
            continue
        if why or repeated is None or record.value is None or repeated.value is None:
            judged.append(Compared(id, record, repeated, "not comparable", why or "no value"))
            continue
        holds, tolerance = _tolerated(record, record.value, repeated.value)
        why = f"original {format_value(record)}, repeated {format_value(repeated)}; tolerance: {tolerance}"
        judged.append(Compared(id, record, repeated, "within" if holds else "outside", why))
    return judged


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
