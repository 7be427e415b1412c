"""Compare the latencies that several load drivers and the server's histogram report for the same load."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, cast

from bankllm.evidence.statistics.rates import throughput
from bankllm.evidence.statistics.samples import histogram_quantile, mean, percentile
from bankllm.evidence.statistics.statistic import Rows
from bankllm.loadtest.load import LoadResult, RequestRow, Value, estimate

COLUMNS = ("load", "percentile", "driver", "driver_ms", "against", "against_ms", "apart", "tolerance", "agrees")
PERCENTILES = {"p50": 0.5, "p95": 0.95}
TOLERANCE = 0.2
"""Largest difference of a driver from the median of all drivers, as a share of that median. Two runs of a driver differ
by up to 10 %; an error of method (rounding, a wait left out) by more than 20 %."""
RESOLUTION_MS = 2.0
"""Smaller differences in ms always agree, because ab reports whole milliseconds."""
BUCKETS = 1
"""Largest difference of a driver from the server's histogram, in buckets. The histogram leaves out the network, the
parser and the wait for the event loop, which can move a reply into the next bucket."""


def drivers_agree(measured: Mapping[str, Sequence[RequestRow]], *, load: str) -> list[RequestRow]:
    """Compare each driver's p50 and p95 of the latency (ms) with the median of all drivers.

    Returns one row per driver and percentile. A driver with too few rows for a percentile is left out, and a single
    driver is not compared.
    """
    rows: list[RequestRow] = []
    for name, q in PERCENTILES.items():
        rows += _compared(load, name, {driver: estimate(found, q).value for driver, found in measured.items()})
    return rows


def streams_agree(measured: Mapping[str, LoadResult], *, load: str) -> list[RequestRow]:
    """Compare each driver's streams with the median of all drivers, as `drivers_agree` does: p50 of the time to the
    first token and to the whole reply, the mean time between tokens (ms), and tokens per second.
    """
    values: dict[str, dict[str, float | None]] = {}
    for driver, result in measured.items():
        pieces = cast(Rows, result.pieces)
        first, later = ([piece for piece in pieces if piece["place"] == place] for place in ("first", "later"))
        values.setdefault("first token p50", {})[driver] = percentile(first, "since_sent_ms", 0.5).value
        values.setdefault("between tokens mean", {})[driver] = mean(later, "gap_ms").value
        values.setdefault("whole p50", {})[driver] = estimate(result.measured, 0.5, "service_ms").value
        values.setdefault("tokens/s", {})[driver] = throughput(pieces, "at_s", "at_s").value
    return [row for name, by_driver in values.items() for row in _compared(load, name, by_driver)]


def _compared(load: str, name: str, estimates: Mapping[str, float | None]) -> list[RequestRow]:
    values = {driver: value for driver, value in estimates.items() if value is not None}
    if len(values) < 2:
        return []
    middle, tolerance = median(values.values()), f"{TOLERANCE:.0%} or {RESOLUTION_MS:g} ms"
    rows = []
    for driver, value in values.items():
        agrees = "yes" if abs(value - middle) <= max(TOLERANCE * middle, RESOLUTION_MS) else "no"
        against = ("median of the drivers", middle, f"{value / middle - 1:+.0%}", tolerance, agrees)
        rows.append(_row(load, name, driver, value, *against))
    return rows


def histogram_agrees(
    rows: Sequence[RequestRow],
    buckets: Sequence[Mapping[str, Any]],
    *,
    load: str,
    driver: str,
    column: str = "service_ms",
) -> list[RequestRow]:
    """Compare a driver's p50 and p95 of a column in ms with those of the server's histogram, and compare the counts.

    `rows` are all requests of the route between the two scrapes of `buckets`, including the warm-up, because the server
    counts it too. `buckets` are rows of `le_ms` and a cumulative `requests`. Returns one row for the count and one per
    percentile, with the columns of `drivers_agree`.
    """
    histogram = "the server's histogram"
    texts = [{name: str(value) for name, value in bucket.items()} for bucket in buckets]
    more = (round(float(texts[-1]["requests"])) if texts else 0) - len(rows)
    compared = [_row(load, "count", driver, "", histogram, "", f"{more:+d} requests", "none", "no" if more else "yes")]
    bounds = sorted(float(bucket["le_ms"]) for bucket in texts)
    for name, q in PERCENTILES.items():
        driver_ms = estimate(rows, q, column).value
        server_ms = histogram_quantile(texts, "le_ms", "requests", q).value
        if driver_ms is not None and server_ms is not None:
            apart = bisect_left(bounds, driver_ms) - bisect_left(bounds, server_ms)  # a bucket has its upper bound
            agrees = "yes" if abs(apart) <= BUCKETS else "no"
            against = (histogram, server_ms, f"{apart:+d} buckets", f"{BUCKETS} bucket", agrees)
            compared.append(_row(load, name, driver, driver_ms, *against))
    return compared


def verdict(rows: Sequence[RequestRow]) -> str:
    if not rows:
        return "Nothing was compared: there were too few samples, or only one tool."
    disagreeing = [
        f"{row['driver']} {row['percentile']} ({row['load']}, {row['apart']})" for row in rows if row["agrees"] == "no"
    ]
    if disagreeing:
        return (
            f"They do NOT agree: {len(disagreeing)} of {len(rows)} comparisons are out of tolerance: "
            f"{', '.join(disagreeing)}."
        )
    return f"They agree: all {len(rows)} comparisons are within tolerance."


def _row(*values: Value) -> RequestRow:
    return dict(zip(COLUMNS, values, strict=True))
