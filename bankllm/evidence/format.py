"""Format a record as text. Pages, notebooks and claims use these functions, so they show the same text."""

from collections.abc import Callable

from bankllm.evidence.documents import Record

COUNTED = ("parameters", "requests", "texts", "vectors", "messages")
"""Units of counts, which are shown without decimals."""


def format_part(record: Record, part: str = "") -> str:
    """Formats one of the `PARTS` of a record."""
    return PARTS[part](record)


def format_value(record: Record) -> str:
    """Formats the value, e.g. `93.5 %`, `12.4 ms`, `1.2 MiB`."""
    if record.value is None:
        return "not measured" if record.raw is None else "too few samples"
    return _quantity(record.value, record.unit)


def format_interval(record: Record) -> str:
    """Formats the 95 % interval in the record's unit, or the reason why there is none."""
    if record.ci95 is None:
        return f"none: {record.why_no_ci95}" if record.why_no_ci95 else "–"
    low, high = (_quantity(end, record.unit) for end in record.ci95)
    unit = low.partition(" ")[2]
    return f"{low.removesuffix(' ' + unit)} – {high}" if high.endswith(unit) else f"{low} – {high}"


PARTS: dict[str, Callable[[Record], str]] = {
    "": format_value,
    "ci95": format_interval,
    "n": lambda record: f"{record.n:,}",
}
"""Part of a record that a claim can show → how: the value (`ID`), the interval (`ID#ci95`), the samples (`ID#n`)."""


def describe_how(record: Record) -> str:
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
