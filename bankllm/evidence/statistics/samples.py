"""Statistics of one column: counts, means, percentiles, shares, growth over time, and the spread over groups."""

import math
from functools import cache
from statistics import fmean, median, stdev
from typing import Any

from bankllm.evidence.statistics.statistic import (
    COLUMN,
    COUNT,
    STATISTICS,
    Z95,
    Estimate,
    Rows,
    grouped,
    numbers,
    statistic,
    wilson,
)


@statistic(unit=COUNT)
def count(rows: Rows) -> Estimate:
    """The number of rows."""
    return Estimate(len(rows), len(rows), why_no_ci95="a count, not a sample")


@statistic(unit=COLUMN)
def single(rows: Rows, column: str) -> Estimate:
    """The only value of a column, for quantities measured once (the size of a file, the duration of a training)."""
    if len(rows) != 1:
        return Estimate(None, len(rows), invalid_because=f"expected one row, found {len(rows)}")
    return Estimate(float(rows[0][column]), 1, why_no_ci95="measured once")


@statistic(unit=COLUMN, tolerance=3)
def maximum(rows: Rows, column: str) -> Estimate:
    """The largest value of a column."""
    return Estimate(max(numbers(rows, column)), len(rows), why_no_ci95="a maximum has no interval")


@statistic(unit=COLUMN)
def mean(rows: Rows, column: str) -> Estimate:
    """Arithmetic mean. From 30 samples on, the interval is mean ± 1.96 s/√n (central limit theorem)."""
    values = numbers(rows, column)
    average = fmean(values)
    if len(values) < 30:
        return Estimate(average, len(values), why_no_ci95="fewer than 30 samples")
    half = Z95 * stdev(values) / math.sqrt(len(values))
    return Estimate(average, len(values), (average - half, average + half))


@statistic(unit="share")
def proportion(rows: Rows, column: str, equals: str) -> Estimate:
    """Share of rows whose `column` equals `equals`, with Wilson's score interval."""
    return wilson(sum(row[column] == equals for row in rows), len(rows))


@statistic(unit=COLUMN)
def percentile(rows: Rows, column: str, q: float) -> Estimate:
    """The empirical percentile (nearest rank) with its order-statistic interval; `q` is a fraction, e.g. 0.95.

    With fewer than `samples_needed(q)` rows the value is None. The ends of the interval are the values at the ranks
    nq ± 1.96 √(nq(1 − q)), the normal approximation of the binomial interval for a quantile (Conover, Practical
    Nonparametric Statistics, 3rd ed., section 3.2).
    """
    n = len(rows)
    if n < samples_needed(q):
        return _too_few(n, q)
    values = sorted(numbers(rows, column))
    spread = Z95 * math.sqrt(n * q * (1 - q))
    low = max(1, math.floor(n * q - spread))
    high = min(n, math.ceil(n * q + spread) + 1)
    return Estimate(values[max(1, math.ceil(n * q)) - 1], n, (values[low - 1], values[high - 1]))


@statistic(unit=COLUMN, tolerance=2.5)  # it changes by whole buckets, whose bounds grow by a factor of up to 2.5
def histogram_quantile(rows: Rows, bound: str, cumulative: str, q: float) -> Estimate:
    """A quantile from cumulative histogram buckets, interpolated as PromQL's `histogram_quantile` does.

    Each row is one bucket: its upper bound (`+Inf` for the last) and the number of the `n` observations at or below it.
    """
    buckets = sorted((float(row[bound]), float(row[cumulative])) for row in rows)
    n = round(buckets[-1][1]) if buckets else 0
    if n < samples_needed(q):
        return _too_few(n, q)
    rank = q * buckets[-1][1]
    below, lower = 0.0, 0.0
    for upper, reached in buckets:
        if reached >= rank:
            break
        below, lower = reached, upper
    if math.isinf(upper):
        return Estimate(lower, n, why_no_ci95="above the last finite bucket")
    value = lower + (upper - lower) * (rank - below) / (reached - below)
    return Estimate(value, n, why_no_ci95=f"read off buckets: it lies between {lower:g} and {upper:g}")


@cache
def samples_needed(q: float) -> int:
    """Returns the minimum number of samples for percentile `q`: the smallest n with P(Binomial(n, 1 − q) ≤ 1) ≤ 0.01.

    Raises `ValueError` unless 0 < q < 1.
    Source: MLCommons Inference rules, "early stopping", with c = 0.99, d = 0 and one sample over the bound.
    """
    if not 0 < q < 1:
        raise ValueError(f"q must be between 0 and 1, found {q}")
    n = 1
    while q**n + n * (1 - q) * q ** (n - 1) > 0.01:
        n += 1
    return n


def _too_few(n: int, q: float) -> Estimate:
    return Estimate(None, n, invalid_because=f"p{100 * q:g} needs {samples_needed(q)} samples, there are {n}")


@statistic(unit="share", better="lower")
def growth(rows: Rows, at: str, value: str) -> Estimate:
    """Relative growth of a column: the median of the last third divided by the median of the first third, minus 1.

    `at` is the time of a sample in seconds. Samples of the first minute, or of the first fifth of a series shorter than
    5 minutes, are left out, because allocators and caches fill up then. `n` is the number of samples that remain.
    """
    last = max(numbers(rows, at), default=0.0)
    kept = [float(row[value]) for row in rows if float(row[at]) >= min(60.0, 0.2 * last)]
    if len(kept) < 6:
        return Estimate(None, len(kept), invalid_because=f"6 samples are needed after warming up, found {len(kept)}")
    third = len(kept) // 3
    share = median(kept[-third:]) / median(kept[:third]) - 1
    return Estimate(share, len(kept), why_no_ci95="one series; its samples are not independent")


@statistic(unit=COLUMN)  # that of the statistic `of`; a spread is a share
def across(rows: Rows, /, group: str, pick: str, of: str, **parameters: Any) -> Estimate:
    """The `min`, `median`, `max` or `spread` of the values that the statistic `of` has for each group of rows.

    `group` is the column that identifies the group, and `parameters` go to the statistic. The spread is
    (max − min) / median: the disagreement between repeated runs, or between tools that measure the same quantity. Every
    group must have a value, and there must be at least two groups.
    """
    estimates = {name: STATISTICS.get(of)(members, **parameters) for name, members in grouped(rows, group).items()}
    values = [estimate.value for estimate in estimates.values() if estimate.value is not None]
    if len(values) < max(2, len(estimates)):
        because = [f"{name}: {e.invalid_because}" for name, e in estimates.items() if e.value is None]
        because = because or [f"two groups are needed, found {len(estimates)}"]
        return Estimate(None, len(rows), invalid_because="; ".join(because))
    picks = {"min": min(values), "median": median(values), "max": max(values)}
    picks["spread"] = (picks["max"] - picks["min"]) / picks["median"] if picks["median"] else math.inf
    return Estimate(picks[pick], len(rows), why_no_ci95=f"{pick} of {len(values)}: {group} {', '.join(estimates)}")
