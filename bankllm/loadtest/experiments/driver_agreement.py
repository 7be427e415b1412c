"""Do the tools agree? One load measured by several, and by the server itself; each comparison ends in a verdict.

rows = [*drivers_agree({"ab": ab_rows, "open-loop": open_rows}, load="one user"), *histogram_agrees(...)]
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, cast

from bankllm.evidence.statistics.registry import Rows, histogram_quantile, percentile, samples_needed
from bankllm.loadtest.load import RequestRow

PERCENTILES = (0.5, 0.95)
TOLERANCE = 0.2
"""Between drivers, of their median. Two runs of one driver on a shared machine differ by up to a tenth, and a tail
by more than a middle; a tool that is wrong (rounds, leaves out a wait) is wrong by more than a fifth."""
RESOLUTION_MS = 2.0
"""ab tells whole milliseconds: a difference of two of them is none."""
BUCKETS = 1
"""How many buckets a histogram's percentile and a driver's may lie apart. The histogram knows no more than a bucket,
and it does not see the network, the parser and the wait for the event loop, which may push a reply into the next."""


def drivers_agree(
    measured: Mapping[str, Sequence[RequestRow]], *, load: str, column: str = "latency_ms"
) -> list[RequestRow]:
    """One row a driver and percentile: how far it lies from the median of all drivers, and whether that is little.

    Drivers with too few rows for a percentile are left out of its comparison; one alone is not compared.
    """
    rows: list[RequestRow] = []
    for q in PERCENTILES:
        found = {
            driver: float(str(percentile(cast(Rows, mine), column, q).value))
            for driver, mine in measured.items()
            if len(mine) >= samples_needed(q)
        }
        middle = median(found.values()) if found else 0.0
        allowed = max(TOLERANCE * middle, RESOLUTION_MS)
        for driver, value in found.items() if len(found) > 1 else ():
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
    """One row a percentile: how many buckets a driver's percentile lies from the one that the server's histogram has.

    `rows` are all requests of that route between the two scrapes that `buckets` come from (`le_ms` and a cumulative
    `requests`), the warm-up's too: the server does not know of warm-ups. Counts that differ are a verdict as well.
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
        mine = percentile(cast(Rows, rows), column, q).value
        theirs = histogram_quantile(texts, "le_ms", "requests", q).value
        if mine is None or theirs is None:
            continue
        apart = bucket_of(mine, texts) - bucket_of(theirs, texts)
        compared.append(
            {
                "load": load,
                "percentile": f"p{100 * q:.0f}",
                "driver": driver,
                "driver_ms": mine,
                "against": "the server's histogram",
                "against_ms": theirs,
                "apart": f"{apart:+d} buckets",
                "tolerance": f"{BUCKETS} bucket",
                "agrees": "yes" if abs(apart) <= BUCKETS else "no",
            }
        )
    return compared


def bucket_of(value: float, buckets: Sequence[Mapping[str, Any]]) -> int:
    """The number of the bucket that a value in ms falls into, from 0."""
    bounds = sorted(float(bucket["le_ms"]) for bucket in buckets)
    return next(number for number, (low, high) in enumerate(pairwise((-1.0, *bounds))) if low < value <= high)


def verdict(rows: Sequence[RequestRow]) -> str:
    """The comparisons in one sentence."""
    off = [
        f"{row['driver']} {row['percentile']} ({row['load']}, {row['apart']})" for row in rows if row["agrees"] == "no"
    ]
    if not rows:
        return "Nothing was compared: too few samples, or one tool alone."
    if off:
        return f"They do NOT agree: {len(off)} of {len(rows)} comparisons are out of tolerance: {', '.join(off)}."
    return f"They agree: all {len(rows)} comparisons are within tolerance."
