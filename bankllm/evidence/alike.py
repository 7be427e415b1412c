"""Whether two records may be compared at all: same statistic, same data, same machine, same conditions.

Results from unlike machines or data never share a table (`compare`), and judge nothing (`reproduce`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bankllm.evidence.manifest import read_manifest
from bankllm.evidence.records import Record
from bankllm.evidence.seal import MANIFEST

MACHINE = ("cpu", "cores_usable", "cpu_limit", "memory_gib", "memory_limit_gib", "gpus", "machine")
"""Keys of the environment capsule that make a machine another one."""

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


def unlike_machines(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """What differs between two machines, in words; empty where nothing does. An unknown machine is like no other."""
    if not a or not b:
        return "machine unknown: the run has no manifest"
    return "; ".join(f"machine: {key} {a[key]} / {b[key]}" for key in MACHINE if a[key] != b[key])


def unlike_records(a: Record, b: Record) -> str:
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
