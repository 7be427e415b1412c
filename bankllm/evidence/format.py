"""How a record reads: the same words on every page, in notebooks and in bound claims.

Standard library alone, and any object with a record's fields will do: the verifier that lies in a run's folder carries
this module and has no pydantic.
"""

from collections.abc import Mapping
from typing import Any, Protocol

PARTS = ("", "ci95", "n")
"""What a claim can show of a record: its value (`ID`), its interval (`ID#ci95`), its number of samples (`ID#n`)."""

COUNTED = ("parameters", "requests", "texts", "vectors", "messages")


class RecordLike(Protocol):
    """The fields of a record that a page shows."""

    @property
    def value(self) -> float | None: ...
    @property
    def unit(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def ci95(self) -> tuple[float, float] | None: ...
    @property
    def why_no_ci95(self) -> str | None: ...
    @property
    def statistic(self) -> str | None: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...
    @property
    def raw(self) -> object: ...


def format_part(record: RecordLike, part: str = "") -> str:
    """What stands in a claim of that part. Raises `ValueError` for a part that is none of `PARTS`."""
    if part not in PARTS:
        raise ValueError(f"Unknown part {part!r} of a record. Expected one of: ci95, n, or none.")
    return {"": format_value, "ci95": format_interval, "n": format_count}[part](record)


def format_value(record: RecordLike) -> str:
    """`93.5 %`, `12.4 ms`, `1.2 MiB`; `not measured` where there is no value."""
    if record.value is None:
        return "not measured" if record.raw is None else "too few samples"
    return _quantity(record.value, record.unit)


def format_interval(record: RecordLike) -> str:
    """The 95 % interval in the record's unit, or why there is none."""
    if record.ci95 is None:
        return f"none: {record.why_no_ci95}" if record.why_no_ci95 else "–"
    low, high = (_quantity(end, record.unit) for end in record.ci95)
    unit = low.rpartition(" ")[2]
    return f"{low.removesuffix(' ' + unit)} – {high}" if high.endswith(unit) else f"{low} – {high}"


def format_count(record: RecordLike) -> str:
    """How many samples, e.g. `3,080`."""
    return f"{record.n:,}"


def describe_how(record: RecordLike) -> str:
    """The statistic and what it was applied to, e.g. `percentile of latency_ms, q = 0.95`."""
    if record.statistic is None:
        return "–"
    parameters = record.parameters
    column = f" of {parameters['column']}" if "column" in parameters else ""
    value = f" = {parameters['equals'] or '(empty)'}" if "equals" in parameters else ""
    q = f", q = {parameters['q']}" if "q" in parameters else ""
    name = "value" if record.statistic == "single" else record.statistic
    return f"{name}{column}{value}{q}"


def _quantity(value: float, unit: str) -> str:
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "bytes":
        return f"{value / 2**20:,.1f} MiB" if value >= 2**20 else f"{value / 2**10:,.1f} KiB"
    if unit in COUNTED:
        return f"{value:,.0f} {unit}"
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"
