"""The statistics that a record may name: pure functions from the rows of a raw CSV file to an `Estimate`.

Standard library alone, so that a sceptic can check a run without installing anything. Rows are
`dict[str, str]` as `csv.DictReader` gives them. `STATISTICS` is the list of all that may be named.
"""

import math
import random
from collections.abc import Callable
from functools import cache
from statistics import fmean, median, stdev
from typing import Any

from bankllm.evidence.statistics.classification import (
    accuracy,
    accuracy_difference,
    accuracy_over_seeds,
    accuracy_sd_over_seeds,
    aurc,
    auroc,
    expected_calibration_error,
    macro_f1,
    mcnemar,
    recall_at_false_rejects,
    rejected,
)
from bankllm.evidence.statistics.estimate import Z95, Estimate, Rows, no_rows, numbers, wilson

MIN_ACHIEVED_SHARE = 0.95
"""Of an offered rate that must be achieved, for `knee`."""


def count(rows: Rows) -> Estimate:
    """How many rows there are."""
    return Estimate(len(rows), len(rows), why_no_ci95="a count, not a sample")


def single(rows: Rows, column: str) -> Estimate:
    """The one value of a column, for things measured once (a file's bytes, a training run's seconds)."""
    if len(rows) != 1:
        return Estimate(None, len(rows), invalid_because=f"expected one row, found {len(rows)}")
    return Estimate(float(rows[0][column]), 1, why_no_ci95="measured once")


def maximum(rows: Rows, column: str) -> Estimate:
    """The largest value of a column."""
    if not rows:
        return no_rows()
    return Estimate(max(numbers(rows, column)), len(rows), why_no_ci95="a maximum has no interval")


def mean(rows: Rows, column: str) -> Estimate:
    """Arithmetic mean; the interval is mean ± 1.96 s/√n (central limit theorem), from 30 samples on."""
    if not rows:
        return no_rows()
    values = numbers(rows, column)
    average = fmean(values)
    if len(values) < 30:
        return Estimate(average, len(values), why_no_ci95="fewer than 30 samples")
    half = Z95 * stdev(values) / math.sqrt(len(values))
    return Estimate(average, len(values), (average - half, average + half))


def percentile(rows: Rows, column: str, q: float) -> Estimate:
    """The empirical percentile (nearest rank) with its order-statistic interval.

    Below `samples_needed(q)` rows the value is None: MLPerf Inference's early-stopping rule at 99 %
    confidence. The interval takes the ranks nq ± 1.96 √(nq(1 − q)), the normal approximation of the
    binomial interval for a quantile (Practical Nonparametric Statistics, 3rd ed., section 3.2).
    """
    needed = samples_needed(q)
    n = len(rows)
    if n < needed:
        return Estimate(None, n, invalid_because=f"p{100 * q:g} needs {needed} samples, there are {n}")
    values = sorted(numbers(rows, column))
    spread = Z95 * math.sqrt(n * q * (1 - q))
    low = max(1, math.floor(n * q - spread))
    high = min(n, math.ceil(n * q + spread) + 1)
    return Estimate(values[max(1, math.ceil(n * q)) - 1], n, (values[low - 1], values[high - 1]))


@cache
def samples_needed(q: float) -> int:
    """The fewest samples for a percentile: P(Binomial(n, 1 − q) ≤ 1) ≤ 0.01.

    Source: MLCommons Inference rules, "early stopping", c = 0.99, d = 0, one sample over the bound.
    """
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, found {q}")
    n = 1
    while q**n + n * (1 - q) * q ** (n - 1) > 0.01:
        n += 1
    return n


def proportion(rows: Rows, column: str, equals: str) -> Estimate:
    """Share of rows in which `column` is `equals`, with Wilson's score interval."""
    return wilson(sum(row[column] == equals for row in rows), len(rows))


def throughput(rows: Rows, start: str, end: str) -> Estimate:
    """Rows a second between the first start and the last end (columns in seconds on one clock)."""
    if not rows:
        return no_rows()
    span = max(numbers(rows, end)) - min(numbers(rows, start))
    if span <= 0:
        return Estimate(None, len(rows), invalid_because="the rows span no time")
    return Estimate(len(rows) / span, len(rows), why_no_ci95="one run; its requests are not independent")


def rate(rows: Rows, amount: str, seconds: str) -> Estimate:
    """How much was done a second: one column's sum over the sum of another, for work done piece after piece."""
    if not rows:
        return no_rows()
    spent = math.fsum(numbers(rows, seconds))
    if spent <= 0:
        return Estimate(None, len(rows), invalid_because="the rows took no time")
    return Estimate(
        math.fsum(numbers(rows, amount)) / spent, len(rows), why_no_ci95="one run; its pieces are not alike"
    )


def histogram_quantile(rows: Rows, bound: str, cumulative: str, q: float) -> Estimate:
    """A quantile from cumulative buckets, interpolated as PromQL's `histogram_quantile` does it.

    Each row is one bucket: its upper bound (`+Inf` for the last) and how many observations lie at or below it.
    """
    buckets = sorted((float(row[bound]), float(row[cumulative])) for row in rows)
    n = round(buckets[-1][1]) if buckets else 0
    if n < samples_needed(q):
        because = f"p{100 * q:g} needs {samples_needed(q)} samples, there are {n}"
        return Estimate(None, n, invalid_because=because)
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


def goodput(rows: Rows, start: str, end: str, latency: str, error: str, objective_ms: float) -> Estimate:
    """Requests a second that were answered without an error and within the objective (times in seconds, one clock).

    What "goodput" means in vLLM's and NVIDIA's serving benchmarks: those that miss the objective count for nothing.
    """
    if not rows:
        return no_rows()
    span = max(numbers(rows, end)) - min(numbers(rows, start))
    if span <= 0:
        return Estimate(None, len(rows), invalid_because="the rows span no time")
    good = sum(not row[error] and float(row[latency]) <= objective_ms for row in rows)
    return Estimate(good / span, len(rows), why_no_ci95="one run; its requests are not independent")


def knee(
    rows: Rows, offered: str, start: str, end: str, latency: str, error: str, objective_ms: float, q: float = 0.95
) -> Estimate:
    """The highest offered rate that the server stood, below the first that it did not; one sweep's rows.

    A rate stands if percentile `q` of the latency is within the objective, no request failed, and the last reply
    came soon enough after the last due time that `MIN_ACHIEVED_SHARE` of the rate was achieved (no queue remained).
    Source: the Server scenario of MLPerf Inference (arXiv 1911.02549), whose figure is the highest Poisson rate at
    which a percentile of the latency is within a bound.
    """
    if not rows:
        return no_rows()
    steps: dict[float, list[dict[str, str]]] = {}
    for row in rows:
        steps.setdefault(float(row[offered]), []).append(row)
    highest = None
    for rate in sorted(steps):
        found = percentile(steps[rate], latency, q)
        if found.value is None:
            return Estimate(None, len(rows), invalid_because=f"at {rate:g}/s {found.invalid_because}")
        due = numbers(steps[rate], start)
        achieved = (max(due) - min(due)) / (max(numbers(steps[rate], end)) - min(due))
        if found.value > objective_ms or achieved < MIN_ACHIEVED_SHARE or any(row[error] for row in steps[rate]):
            if highest is None:
                return Estimate(None, len(rows), invalid_because=f"{rate:g}/s, the lowest rate, was already too much")
            return Estimate(highest, len(rows), why_no_ci95=f"one sweep: {rate:g}/s was too much, none between")
        highest = rate
    return Estimate(highest, len(rows), invalid_because="no rate was too much: the knee lies higher")


def growth(rows: Rows, at: str, value: str) -> Estimate:
    """By what share a column grew: the median of the last third over that of the first, less 1.

    The first minute, or the first fifth of a shorter series, is left out: allocators and caches fill in it.
    """
    last = max(numbers(rows, at), default=0.0)
    kept = [float(row[value]) for row in rows if float(row[at]) >= min(60.0, 0.2 * last)]
    if len(kept) < 6:
        return Estimate(None, len(kept), invalid_because=f"6 samples are needed after warming up, found {len(kept)}")
    third = len(kept) // 3
    share = median(kept[-third:]) / median(kept[:third]) - 1
    return Estimate(share, len(kept), why_no_ci95="one series; its samples are not independent")


def across(rows: Rows, group: str, pick: str, of: str, **parameters: Any) -> Estimate:
    """Another statistic applied to each group of rows: the `min`, `median` or `max` of what it gives, or the `spread`.

    The spread is (largest − smallest) / median: by how much repeated runs, or tools that measure the same, disagree.
    """
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row[group], []).append(row)
    found = {name: STATISTICS[of](mine, **parameters) for name, mine in groups.items()}
    values = [estimate.value for estimate in found.values() if estimate.value is not None]
    if len(values) < max(2, len(found)):
        because = [f"{name}: {estimate.invalid_because}" for name, estimate in found.items() if estimate.value is None]
        return Estimate(
            None, len(rows), invalid_because="; ".join(because) or f"two groups are needed, found {len(found)}"
        )
    picks = {"min": min(values), "median": median(values), "max": max(values)}
    picks["spread"] = (picks["max"] - picks["min"]) / picks["median"] if picks["median"] else math.inf
    return Estimate(picks[pick], len(rows), why_no_ci95=f"{pick} of {len(values)}: {group} {', '.join(found)}")


def bootstrap(rows: Rows, of: str, resamples: int = 1000, seed: int = 0, **parameters: Any) -> Estimate:
    """Another statistic with the percentile interval of the bootstrap, for those that have no closed-form one.

    Rows are drawn again with replacement, `resamples` times; the interval takes the 2.5th and 97.5th percentile of
    what comes out. The seed is part of the record, and Python keeps `random()` the same from release to release.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    statistic = STATISTICS[of]
    found = statistic(rows, **parameters)
    if found.value is None:
        return found
    if len(rows) < 30:
        return Estimate(found.value, found.n, why_no_ci95="fewer than 30 samples")
    draw, n = random.Random(seed).random, len(rows)
    held = list(rows)
    drawn = ([held[int(draw() * n)] for _ in range(n)] for _ in range(resamples))
    values = sorted(value for sample in drawn if (value := statistic(sample, **parameters).value) is not None)
    low, high = values[math.floor(0.025 * (len(values) - 1))], values[math.ceil(0.975 * (len(values) - 1))]
    return Estimate(found.value, found.n, (low, high))


STATISTICS: dict[str, Callable[..., Estimate]] = {
    function.__name__: function
    for function in (
        count,
        single,
        maximum,
        mean,
        percentile,
        proportion,
        throughput,
        rate,
        histogram_quantile,
        accuracy,
        macro_f1,
        accuracy_over_seeds,
        accuracy_sd_over_seeds,
        mcnemar,
        accuracy_difference,
        expected_calibration_error,
        aurc,
        rejected,
        recall_at_false_rejects,
        auroc,
        goodput,
        knee,
        growth,
        across,
        bootstrap,
    )
}
