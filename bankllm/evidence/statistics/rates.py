"""Statistics of work per second: throughput, goodput, the knee of a rate sweep, and what the work costs.

Columns of times are in seconds on the same clock, latencies in ms; an error is empty for a success.
"""

import math

from bankllm.evidence.statistics.samples import percentile
from bankllm.evidence.statistics.statistic import PER_SECOND, T95, Estimate, Rows, grouped, numbers, statistic

MIN_ACHIEVED_SHARE = 0.95
"""Share of the offered rate that the server must achieve, for `knee`."""


@statistic(unit=PER_SECOND, better="higher")
def throughput(rows: Rows, start: str, end: str) -> Estimate:
    """Rows per second between the first start and the last end."""
    return _per_second(rows, len(rows), start, end)


@statistic(unit=PER_SECOND, better="higher")
def goodput(
    rows: Rows,
    start: str,
    end: str,
    latency: str,
    error: str,
    objective_ms: float,
    first: str = "",
    first_objective_ms: float = math.inf,
) -> Estimate:
    """Requests per second that succeed within the latency objective, as in the benchmarks of vLLM and NVIDIA.

    `first` is the column of the time to the first token, if that has an objective of its own.
    """
    within = [row for row in rows if not row[error] and float(row[latency]) <= objective_ms]
    good = sum(not first or float(row[first]) <= first_objective_ms for row in within)
    return _per_second(rows, good, start, end)


def _per_second(rows: Rows, amount: int, start: str, end: str) -> Estimate:
    span = max(numbers(rows, end)) - min(numbers(rows, start))
    if span <= 0:
        return Estimate(None, len(rows), invalid_because="the rows span no time")
    return Estimate(amount / span, len(rows), why_no_ci95="one run; its requests are not independent")


@statistic(unit="{amount}/s", better="higher")
def rate(rows: Rows, amount: str, seconds: str) -> Estimate:
    """Work per second: the sum of `amount` divided by the sum of `seconds`, for work done in sequence."""
    done, spent = (math.fsum(numbers(rows, column)) for column in (amount, seconds))
    if spent <= 0:
        return Estimate(None, len(rows), invalid_because="the rows took no time")
    return Estimate(done / spent, len(rows), why_no_ci95="one run; its pieces are not alike")


@statistic(unit=PER_SECOND, better="higher")
def knee(
    rows: Rows, offered: str, start: str, end: str, latency: str, error: str, objective_ms: float, q: float = 0.95
) -> Estimate:
    """The highest sustained request rate of a sweep: the last offered rate before the first one that is too high.

    A rate is sustained if percentile `q` of the latency is at most `objective_ms`, no request failed, and the server
    achieved at least `MIN_ACHIEVED_SHARE` of the rate. The last condition compares the time of the last reply with the
    last due time (`start`), so a growing queue fails it. `offered` is in requests per second.

    Source: the Server scenario of MLPerf Inference (arXiv 1911.02549), which reports the highest Poisson rate at which
    a percentile of the latency is within a bound.
    """
    highest = None
    for given, step in sorted(grouped(rows, offered).items(), key=lambda item: float(item[0])):
        rate = float(given)
        observed = percentile(step, latency, q)
        if observed.value is None:
            return Estimate(None, len(rows), invalid_because=f"at {rate:g}/s {observed.invalid_because}")
        due = numbers(step, start)
        achieved = (max(due) - min(due)) / (max(numbers(step, end)) - min(due))
        if observed.value > objective_ms or achieved < MIN_ACHIEVED_SHARE or any(row[error] for row in step):
            if highest is None:
                return Estimate(None, len(rows), invalid_because=f"{rate:g}/s, the lowest rate, was already too much")
            return Estimate(highest, len(rows), why_no_ci95=f"one sweep: {rate:g}/s was too much, none between")
        highest = rate
    return Estimate(highest, len(rows), invalid_because="no rate was too much: the knee lies higher")


@statistic(unit=PER_SECOND, better="higher")
def share_knee(rows: Rows, offered: str, column: str, equals: str, least_share: float) -> Estimate:
    """The last offered rate before the first one at which fewer than `least_share` of the rows have the value."""
    highest = None
    for given, step in sorted(grouped(rows, offered).items(), key=lambda item: float(item[0])):
        rate, share = float(given), sum(row[column] == equals for row in step) / len(step)
        if share < least_share:
            too_much = f"{rate:g}/s was too much, with a share of {share:.0%}"
            if highest is None:
                return Estimate(None, len(rows), invalid_because=f"the lowest rate, {too_much}")
            return Estimate(highest, len(rows), why_no_ci95=f"one sweep: {too_much}, none between")
        highest = rate
    return Estimate(highest, len(rows), invalid_because="no rate was too much: the knee lies higher")


@statistic(unit="s/1000 {per}", better="lower")
def consumption(rows: Rows, before: str, after: str, per: str) -> Estimate:
    """CPU seconds per 1,000 pieces of work. Each row is a chunk: a clock `before` and `after` it, and its pieces.

    The interval is that of a ratio of two sums over the chunks, by linearisation with Student's t (Cochran, Sampling
    Techniques, 3rd ed., section 2.11).
    """
    return _per_piece(rows, before, after, per, 1000)


@statistic(unit="USD/million {per}", better="lower")
def price(rows: Rows, before: str, after: str, per: str, price_per_hour: float, cores: int) -> Estimate:
    """Price of a million pieces of work on a machine of `cores` cores that costs `price_per_hour` and is always busy.

    Computed and estimated as `consumption`.
    """
    return _per_piece(rows, before, after, per, 1e6 * price_per_hour / 3600 / cores)


def _per_piece(rows: Rows, before: str, after: str, per: str, factor: float) -> Estimate:
    n, pieces = len(rows), numbers(rows, per)
    spent = [end - start for start, end in zip(numbers(rows, before), numbers(rows, after), strict=True)]
    if not (total := math.fsum(pieces)):
        return Estimate(None, n, invalid_because=f"no {per}")
    each = math.fsum(spent) / total
    if n < 3:
        return Estimate(factor * each, n, why_no_ci95="fewer than 3 chunks")
    squares = math.fsum((used - each * count) ** 2 for used, count in zip(spent, pieces, strict=True))
    half = T95[min(n - 1, len(T95)) - 1] * math.sqrt(n / (n - 1) * squares) / total
    return Estimate(factor * each, n, (max(0.0, factor * (each - half)), factor * (each + half)))
