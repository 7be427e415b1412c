"""How a record reads: the same words on every page, in notebooks and in bound claims."""

from bankllm.evidence.records import Record


def show_value(record: Record) -> str:
    """`93.5 %`, `12.4 ms`, `1.2 MiB`; `not measured` where there is no value."""
    if record.value is None:
        return record.status if record.status == "not measured" else "too few samples"
    return _quantity(record.value, record.unit)


def show_interval(record: Record) -> str:
    """The 95 % interval in the record's unit, or why there is none."""
    if record.ci95 is None:
        return f"none: {record.why_no_ci95}" if record.why_no_ci95 else "–"
    low, high = (_quantity(end, record.unit) for end in record.ci95)
    unit = low.rpartition(" ")[2]
    return f"{low.removesuffix(' ' + unit)} – {high}" if high.endswith(unit) else f"{low} – {high}"


def describe_how(record: Record) -> str:
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
    if unit in ("parameters", "requests", "texts", "vectors", "messages"):
        return f"{value:,.0f} {unit}"
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}"
