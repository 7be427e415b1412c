"""Compare the latencies that several load drivers and the server's histogram report for the same load.

rows = [*drivers_agree({"ab": ab_rows, "open-loop": open_rows}, load="one user"), *histogram_agrees(...)]
print(verdict(rows))
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, cast

from bankllm.evidence.statistics.registry import Rows, histogram_quantile, percentile, samples_needed
from bankllm.loadtest.load import RequestRow

PERCENTILES = (0.5, 0.95)
TOLERANCE = 0.2
"""Largest difference of a driver from the median of all drivers, as a share of that median.

Two runs of the same driver on a shared machine differ by up to 10 %, high percentiles by more than medians. A driver
with an error in its method (rounding, a wait that it leaves out) differs by more than 20 %.
"""
RESOLUTION_MS = 2.0
"""Smaller differences in ms always agree, because ab reports whole milliseconds."""
BUCKETS = 1
"""Largest difference between the percentile of a driver and that of the server's histogram, in buckets.

The histogram has the resolution of its buckets. It also leaves out the network, the parser and the wait for the event
loop, which can move a reply into the next bucket.
"""


def drivers_agree(
    measured: Mapping[str, Sequence[RequestRow]], *, load: str, column: str = "latency_ms"
) -> list[RequestRow]:
    """Compare each driver's p50 and p95 of `column` (ms) with the median of all drivers.

    Returns one row per driver and percentile, with the difference (`apart`) and the verdict (`agrees`: yes or no). A
    driver with too few rows for a percentile is left out. A single driver is not compared.
    """
    rows: list[RequestRow] = []
    for q in PERCENTILES:
        values = {
            driver: float(str(percentile(cast(Rows, driver_rows), column, q).value))
            for driver, driver_rows in measured.items()
            if len(driver_rows) >= samples_needed(q)
        }
        middle = median(values.values()) if values else 0.0
        allowed = max(TOLERANCE * middle, RESOLUTION_MS)
        for driver, value in values.items() if len(values) > 1 else ():
            rows.append(
                {
                    "load": load,
                    "percentile": f"p{100 * q:.0f}",
                    "driver": driver,
                    "driver_ms": value,
                    "against": "median of the drivers",
                    "against_ms": middle,
                    "apart": f"{value / middle - 1:+.0%}",
                    "tolerance": f"{TOLERANCE:.0%} or {RESOLUTION_MS:g} ms",
                    "agrees": "yes" if abs(value - middle) <= allowed else "no",
                }
            )
    return rows


def histogram_agrees(
    rows: Sequence[RequestRow],
    buckets: Sequence[Mapping[str, Any]],
    *,
    load: str,
    driver: str,
    column: str = "service_ms",
) -> list[RequestRow]:
    """Compare a driver's p50 and p95 with those of the server's histogram, in buckets; also compare the counts.

    `rows` are all requests of the route between the two scrapes of `buckets`, including the warm-up, because the server
    counts it too. `buckets` are rows of `le_ms` and a cumulative `requests`. Returns one row for the count and one per
    percentile, with the columns of `drivers_agree`.
    """
    texts = [{name: str(value) for name, value in bucket.items()} for bucket in buckets]
    seen = round(float(texts[-1]["requests"])) if texts else 0
    compared: list[RequestRow] = [
        {
            "load": load,
            "percentile": "count",
            "driver": driver,
            "driver_ms": "",
            "against": "the server's histogram",
            "against_ms": "",
            "apart": f"{seen - len(rows):+d} requests",
            "tolerance": "none",
            "agrees": "yes" if seen == len(rows) else "no",
        }
    ]
    for q in PERCENTILES:
        driver_ms = percentile(cast(Rows, rows), column, q).value
        server_ms = histogram_quantile(texts, "le_ms", "requests", q).value
        if driver_ms is None or server_ms is None:
            continue
        apart = bucket_of(driver_ms, texts) - bucket_of(server_ms, texts)
        compared.append(
            {
                "load": load,
                "percentile": f"p{100 * q:.0f}",
                "driver": driver,
                "driver_ms": driver_ms,
                "against": "the server's histogram",
                "against_ms": server_ms,
                "apart": f"{apart:+d} buckets",
                "tolerance": f"{BUCKETS} bucket",
                "agrees": "yes" if abs(apart) <= BUCKETS else "no",
            }
        )
    return compared


def bucket_of(value: float, buckets: Sequence[Mapping[str, Any]]) -> int:
    """Return the index, from 0, of the bucket that contains a value in ms. A bucket includes its upper bound."""
    bounds = sorted(float(bucket["le_ms"]) for bucket in buckets)
    return next(number for number, (low, high) in enumerate(pairwise((-1.0, *bounds))) if low < value <= high)


def verdict(rows: Sequence[RequestRow]) -> str:
    """Summarise the comparisons in one sentence."""
    disagreeing = [
        f"{row['driver']} {row['percentile']} ({row['load']}, {row['apart']})" for row in rows if row["agrees"] == "no"
    ]
    if not rows:
        return "Nothing was compared: there were too few samples, or only one tool."
    if disagreeing:
        return (
            f"They do NOT agree: {len(disagreeing)} of {len(rows)} comparisons are out of tolerance: "
            f"{', '.join(disagreeing)}."
        )
    return f"They agree: all {len(rows)} comparisons are within tolerance."
