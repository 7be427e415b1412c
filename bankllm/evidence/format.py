"""Format a record as text. Pages, notebooks and claims use these functions, so they show the same text.

Standard library only, and any object with the fields of `RecordLike` is accepted, because this module is part of the
`verify.py` that every run contains, which has no pydantic.
"""

from collections.abc import Mapping
from typing import Any, Protocol

PARTS = ("", "ci95", "n")
"""Parts of a record that a claim can show: the value (`ID`), the interval (`ID#ci95`), the sample count (`ID#n`)."""

COUNTED = ("parameters", "requests", "texts", "vectors", "messages")
"""Units of counts, which are shown without decimals."""


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
    """Formats one part of a record. Raises `ValueError` if the part is not one of `PARTS`."""
    if part not in PARTS:
        raise ValueError(f"Unknown part {part!r} of a record. Expected ci95, n, or an empty string.")
    return {"": format_value, "ci95": format_interval, "n": format_count}[part](record)


def format_value(record: RecordLike) -> str:
    """Formats the value, e.g. `93.5 %`, `12.4 ms`, `1.2 MiB`; without a value, `not measured` or `too few samples`."""
    if record.value is None:
        return "not measured" if record.raw is None else "too few samples"
    return _quantity(record.value, record.unit)


def format_interval(record: RecordLike) -> str:
    """Formats the 95 % interval in the record's unit, or the reason why there is none."""
    if record.ci95 is None:
        return f"none: {record.why_no_ci95}" if record.why_no_ci95 else "–"
    low, high = (_quantity(end, record.unit) for end in record.ci95)
    unit = low.rpartition(" ")[2]
    return f"{low.removesuffix(' ' + unit)} – {high}" if high.endswith(unit) else f"{low} – {high}"


def format_count(record: RecordLike) -> str:
    """Formats the number of samples, e.g. `3,080`."""
    return f"{record.n:,}"


def describe_how(record: RecordLike) -> str:
    """Describes the statistic and its column, e.g. `percentile of latency_ms, q = 0.95`."""
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
