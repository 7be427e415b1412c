"""The statistics that a record can name: pure functions from the rows of a raw CSV file to an `Estimate`.

Standard library only, so that a run can be verified without installing anything. Rows are `dict[str, str]`, as
`csv.DictReader` returns them, and string arguments are column names. `STATISTICS` maps each name to its function. The
texts `why_no_ci95` and `invalid_because` are part of the record and are compared by the verifier: do not reword them.
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
"""Share of the offered rate that the server must achieve, for `knee`."""


def count(rows: Rows) -> Estimate:
    """The number of rows."""
    return Estimate(len(rows), len(rows), why_no_ci95="a count, not a sample")


def single(rows: Rows, column: str) -> Estimate:
    """The only value of a column, for quantities measured once (the size of a file, the duration of a training)."""
    if len(rows) != 1:
        return Estimate(None, len(rows), invalid_because=f"expected one row, found {len(rows)}")
    return Estimate(float(rows[0][column]), 1, why_no_ci95="measured once")


def maximum(rows: Rows, column: str) -> Estimate:
    """The largest value of a column."""
    if not rows:
        return no_rows()
    return Estimate(max(numbers(rows, column)), len(rows), why_no_ci95="a maximum has no interval")


def mean(rows: Rows, column: str) -> Estimate:
    """Arithmetic mean. From 30 samples on, the interval is mean ± 1.96 s/√n (central limit theorem)."""
    if not rows:
        return no_rows()
    values = numbers(rows, column)
    average = fmean(values)
    if len(values) < 30:
        return Estimate(average, len(values), why_no_ci95="fewer than 30 samples")
    half = Z95 * stdev(values) / math.sqrt(len(values))
    return Estimate(average, len(values), (average - half, average + half))


def percentile(rows: Rows, column: str, q: float) -> Estimate:
    """The empirical percentile (nearest rank) with its order-statistic interval; `q` is a fraction, e.g. 0.95.

    With fewer than `samples_needed(q)` rows the value is None: the early-stopping rule of MLPerf Inference at 99 %
    confidence. The ends of the interval are the values at the ranks nq ± 1.96 √(nq(1 − q)), the normal approximation of
    the binomial interval for a quantile (Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2).
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


def proportion(rows: Rows, column: str, equals: str) -> Estimate:
    """Share of rows whose `column` equals `equals`, with Wilson's score interval."""
    return wilson(sum(row[column] == equals for row in rows), len(rows))


def throughput(rows: Rows, start: str, end: str) -> Estimate:
    """Rows per second between the first start and the last end. Both columns are in seconds on the same clock."""
    if not rows:
        return no_rows()
    span = max(numbers(rows, end)) - min(numbers(rows, start))
    if span <= 0:
        return Estimate(None, len(rows), invalid_because="the rows span no time")
    return Estimate(len(rows) / span, len(rows), why_no_ci95="one run; its requests are not independent")


def rate(rows: Rows, amount: str, seconds: str) -> Estimate:
    """Work per second: the sum of `amount` divided by the sum of `seconds`, for work done in sequence."""
    if not rows:
        return no_rows()
    spent = math.fsum(numbers(rows, seconds))
    if spent <= 0:
        return Estimate(None, len(rows), invalid_because="the rows took no time")
    return Estimate(
        math.fsum(numbers(rows, amount)) / spent, len(rows), why_no_ci95="one run; its pieces are not alike"
    )


def histogram_quantile(rows: Rows, bound: str, cumulative: str, q: float) -> Estimate:
    """A quantile from cumulative histogram buckets, interpolated as PromQL's `histogram_quantile` does.

    Each row is one bucket: its upper bound (`+Inf` for the last) and the number of observations at or below it. `n` is
    the number of observations.
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
    """Goodput: requests per second that succeed within the latency objective. Other requests are not counted.

    `start` and `end` are in seconds on the same clock, `latency` is in ms, and `error` is empty for a success. The term
    has the same meaning in the serving benchmarks of vLLM and NVIDIA.
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
    """The highest sustained request rate of a sweep: the last offered rate before the first one that is too high.

    A rate is sustained if percentile `q` of the latency is at most `objective_ms`, no request failed, and the server
    achieved at least `MIN_ACHIEVED_SHARE` of the rate. The last condition compares the time of the last reply with the
    last due time, so a growing queue fails it. `offered` is in requests per second, `start` (due time) and `end` are in
    seconds on the same clock, `latency` is in ms, and `error` is empty for a success.

    Source: the Server scenario of MLPerf Inference (arXiv 1911.02549), which reports the highest Poisson rate at which
    a percentile of the latency is within a bound.
    """
    if not rows:
        return no_rows()
    steps: dict[float, list[dict[str, str]]] = {}
    for row in rows:
        steps.setdefault(float(row[offered]), []).append(row)
    highest = None
    for rate in sorted(steps):
        observed = percentile(steps[rate], latency, q)
        if observed.value is None:
            return Estimate(None, len(rows), invalid_because=f"at {rate:g}/s {observed.invalid_because}")
        due = numbers(steps[rate], start)
        achieved = (max(due) - min(due)) / (max(numbers(steps[rate], end)) - min(due))
        if observed.value > objective_ms or achieved < MIN_ACHIEVED_SHARE or any(row[error] for row in steps[rate]):
            if highest is None:
                return Estimate(None, len(rows), invalid_because=f"{rate:g}/s, the lowest rate, was already too much")
            return Estimate(highest, len(rows), why_no_ci95=f"one sweep: {rate:g}/s was too much, none between")
        highest = rate
    return Estimate(highest, len(rows), invalid_because="no rate was too much: the knee lies higher")


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


def across(rows: Rows, group: str, pick: str, of: str, **parameters: Any) -> Estimate:
    """The `min`, `median`, `max` or `spread` of the values that the statistic `of` has for each group of rows.

    `group` is the column that identifies the group, `pick` is one of the four names, and `parameters` go to the
    statistic. The spread is (max − min) / median: the disagreement between repeated runs, or between tools that measure
    the same quantity. Every group must have a value, and there must be at least two groups.
    """
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row[group], []).append(row)
    estimates = {name: STATISTICS[of](members, **parameters) for name, members in groups.items()}
    values = [estimate.value for estimate in estimates.values() if estimate.value is not None]
    if len(values) < max(2, len(estimates)):
        because = [f"{name}: {e.invalid_because}" for name, e in estimates.items() if e.value is None]
        return Estimate(
            None, len(rows), invalid_because="; ".join(because) or f"two groups are needed, found {len(estimates)}"
        )
    picks = {"min": min(values), "median": median(values), "max": max(values)}
    picks["spread"] = (picks["max"] - picks["min"]) / picks["median"] if picks["median"] else math.inf
    return Estimate(picks[pick], len(rows), why_no_ci95=f"{pick} of {len(values)}: {group} {', '.join(estimates)}")


def bootstrap(rows: Rows, of: str, resamples: int = 1000, seed: int = 0, **parameters: Any) -> Estimate:
    """The statistic `of` with a bootstrap percentile interval, for statistics without a closed-form interval.

    The rows are resampled with replacement `resamples` times. The interval is the 2.5th to the 97.5th percentile of the
    resampled values. The result is reproducible: `seed` is part of the record, and Python keeps the sequence of
    `random()` the same in every release.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.
    """
    statistic = STATISTICS[of]
    estimate = statistic(rows, **parameters)
    if estimate.value is None:
        return estimate
    if len(rows) < 30:
        return Estimate(estimate.value, estimate.n, why_no_ci95="fewer than 30 samples")
    draw, n = random.Random(seed).random, len(rows)
    population = list(rows)
    samples = ([population[int(draw() * n)] for _ in range(n)] for _ in range(resamples))
    values = sorted(value for sample in samples if (value := statistic(sample, **parameters).value) is not None)
    low, high = values[math.floor(0.025 * (len(values) - 1))], values[math.ceil(0.975 * (len(values) - 1))]
    return Estimate(estimate.value, estimate.n, (low, high))


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
