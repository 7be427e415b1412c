"""Statistics of classifiers: accuracy, calibration, paired comparison and out-of-scope detection.

Each row is one text. Columns: `actual` and `predicted` are label names, `confidence` is 0 … 1, and `seed` identifies
the training run if a file holds several.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import groupby
from statistics import fmean, stdev, variance

from bankllm.evidence.statistics.statistic import T95, Z95, Estimate, Rows, grouped, numbers, statistic, wilson


@statistic(unit="share", better="higher")
def accuracy(rows: Rows, predicted: str = "predicted") -> Estimate:
    """Share of rows with a correct prediction, with Wilson's score interval."""
    return wilson(sum(row[predicted] == row["actual"] for row in rows), len(rows))


@statistic(unit="share", better="higher")
def macro_f1(rows: Rows) -> Estimate:
    """Mean F1 = 2TP / (2TP + FP + FN) over the classes, which are all labels in `actual` or `predicted`."""
    correct = Counter(row["actual"] for row in rows if row["predicted"] == row["actual"])
    predictions = Counter(row["predicted"] for row in rows)
    labels = Counter(row["actual"] for row in rows)
    scores = [2 * correct[label] / (predictions[label] + labels[label]) for label in sorted(predictions | labels)]
    return Estimate(fmean(scores), len(rows), why_no_ci95="macro-F1 has no closed-form interval")


@statistic(unit="share", better="higher")
def micro_f1(rows: Rows, right: str, predicted: str, expected: str) -> Estimate:
    """F1 = 2 Σ right / Σ (predicted + expected) over items, such as tool calls, that the columns count in each row.

    The interval is that of a ratio of two sums over independent rows, by linearisation (Cochran, Sampling Techniques,
    3rd ed., section 2.11).
    """
    hits, n = numbers(rows, right), len(rows)
    sizes = [p + e for p, e in zip(numbers(rows, predicted), numbers(rows, expected), strict=True)]
    if not (total := sum(sizes)):
        return Estimate(None, n, invalid_because=f"no items in {predicted} and {expected}")
    score = 2 * sum(hits) / total
    if n < 30:
        return Estimate(score, n, why_no_ci95="fewer than 30 rows")
    squares = sum((2 * hit - score * size) ** 2 for hit, size in zip(hits, sizes, strict=True))
    half = Z95 * math.sqrt(n / (n - 1) * squares) / total
    return Estimate(score, n, (max(0.0, score - half), min(1.0, score + half)))


@statistic(unit="share", better="higher")
def accuracy_over_seeds(rows: Rows) -> Estimate:
    """Mean accuracy over several training runs; `n` is the number of seeds.

    The interval, mean ± t s/√n with Student's t, covers the variation between seeds on the same texts, not that between
    samples of texts, which the interval of `accuracy` covers.
    """
    shares, problem = _by_seed(rows)
    if problem:
        return Estimate(None, len(shares), invalid_because=problem)
    average = fmean(shares)
    if len(shares) < 2:
        return Estimate(average, 1, why_no_ci95="one seed shows no spread")
    if not (spread := stdev(shares)):
        return Estimate(average, len(shares), why_no_ci95="every seed has the same accuracy: no spread to judge by")
    quantile = T95[min(len(shares) - 1, len(T95)) - 1]  # from 32 seeds on, a little too wide
    half = quantile * spread / math.sqrt(len(shares))
    return Estimate(average, len(shares), (max(0.0, average - half), min(1.0, average + half)))


@statistic(unit="share", better="lower")
def accuracy_sd_over_seeds(rows: Rows) -> Estimate:
    """Sample standard deviation (n − 1) of the accuracy over several training runs; `n` is the number of seeds."""
    shares, problem = _by_seed(rows)
    if len(shares) < 2 and not problem:
        problem = "a standard deviation needs 2 seeds, there is 1"
    if problem:
        return Estimate(None, len(shares), invalid_because=problem)
    return Estimate(stdev(shares), len(shares), why_no_ci95="the spread of a few seeds says little of its own error")


def _by_seed(rows: Rows) -> tuple[list[float], str | None]:
    """Returns the accuracy of each seed, and the reason why they cannot be compared (None if they can)."""
    groups = list(grouped(rows, "seed").values())
    sizes = sorted({len(group) for group in groups})
    unlike = f"the seeds answered unlike numbers of texts ({sizes[0]} to {sizes[-1]})"
    problem = unlike if len(sizes) > 1 else None
    return [fmean(row["predicted"] == row["actual"] for row in group) for group in groups], problem


@statistic(unit="p")
def mcnemar(rows: Rows, a: str, b: str) -> Estimate:
    """The p-value of the exact two-sided McNemar test: do two classifiers have the same accuracy on the same texts?

    Columns `a` and `b` hold the predictions. If b and c texts are classified correctly by only one of them,
    p = min(1, 2 P(Binomial(b + c, ½) ≤ min(b, c))), in integers, which do not overflow.
    Source: McNemar, doi 10.1007/BF02295996.
    """
    only_a, only_b = _discordant(rows, a, b)
    trials, fewer = only_a + only_b, min(only_a, only_b)
    ways = total = 1
    for k in range(1, fewer + 1):
        ways = ways * (trials - k + 1) // k
        total += ways
    return Estimate(min(1.0, 2 * total / 2**trials), len(rows), why_no_ci95="a p-value has no interval")


@statistic(unit="share")
def accuracy_difference(rows: Rows, a: str, b: str) -> Estimate:
    """Accuracy of `a` minus accuracy of `b` on the same texts, with an interval for paired shares.

    The interval is the adjusted Wald interval: 0.5 is added to each of the four cells of the paired table, which keeps
    the coverage near 95 % if few texts differ. Source: Agresti & Min, doi 10.1002/sim.1781.
    """
    only_a, only_b = _discordant(rows, a, b)
    n = len(rows) + 2
    centre = (only_a - only_b) / n
    half = Z95 * math.sqrt(only_a + only_b + 1 - n * centre**2) / n
    return Estimate((only_a - only_b) / len(rows), len(rows), (max(-1.0, centre - half), min(1.0, centre + half)))


def _discordant(rows: Rows, a: str, b: str) -> tuple[int, int]:
    """Returns the number of texts that only `a` classifies correctly, and the number that only `b` does."""
    pairs = [(row[a] == row["actual"], row[b] == row["actual"]) for row in rows]
    return pairs.count((True, False)), pairs.count((False, True))


@statistic(unit="share", better="lower")
def expected_calibration_error(rows: Rows, bins: int = 15) -> Estimate:
    """Expected calibration error: the mean of |accuracy − confidence| over bins, weighted by rows per bin.

    The bins are M equal intervals of the confidence, ((m − 1)/M, m/M].
    Source: Guo et al., arXiv 1706.04599, equation 3.
    """
    gaps = [0.0] * bins
    for score, row in zip(numbers(rows, "confidence"), rows, strict=True):
        gaps[max(0, math.ceil(score * bins) - 1)] += (row["predicted"] == row["actual"]) - score
    return Estimate(sum(map(abs, gaps)) / len(rows), len(rows), why_no_ci95="a binned estimate, biased upwards")


@statistic(unit="share", better="lower")
def aurc(rows: Rows) -> Estimate:
    """Area under the risk–coverage curve: the mean, over k, of the error rate of the k most confident rows.

    Rows with equal confidence share their errors evenly, so their order in the file has no effect.
    Source: Geifman & El-Yaniv, arXiv 1705.08500.
    """
    ordered = sorted(((float(row["confidence"]), row["predicted"] != row["actual"]) for row in rows), reverse=True)
    errors = 0.0
    risks: list[float] = []
    for _, group in groupby(ordered, key=lambda pair: pair[0]):
        tied = [wrong for _, wrong in group]
        for _ in tied:
            errors += sum(tied) / len(tied)
            risks.append(errors / (len(risks) + 1))
    return Estimate(fmean(risks), len(rows), why_no_ci95="the area has no closed-form interval")


@statistic(unit="share", better="higher")
def recall_at_false_rejects(
    rows: Rows, false_rejects: float = 0.05, column: str = "in_scope", inside: str = "yes", outside: str = "no"
) -> Estimate:
    """Share of out-of-scope rows that are rejected if at most a share `false_rejects` of the in-scope rows is rejected.

    `column` holds `inside` or `outside`; other rows are ignored. The threshold is the highest one that the in-scope
    rows allow. Wilson's interval covers the sample of out-of-scope rows and treats the threshold as fixed.
    """
    in_scope, out_of_scope = _scopes(rows, column, inside, outside)
    if not in_scope or not out_of_scope:
        return _one_sided(column, outside if in_scope else inside)
    allowed = math.floor(false_rejects * len(in_scope) + 1e-9)
    threshold = in_scope[allowed] if allowed < len(in_scope) else math.inf
    return wilson(sum(score < threshold for score in out_of_scope), len(out_of_scope))


@statistic(unit="share", better="higher")
def auroc(rows: Rows, column: str = "in_scope", inside: str = "yes", outside: str = "no") -> Estimate:
    """Area under the ROC curve: P(an in-scope row has higher confidence than an out-of-scope row), ties counting half.

    Equal to Mann–Whitney's U divided by its maximum. The interval is DeLong's (doi 10.2307/2531595). `column` holds
    `inside` or `outside`; other rows are ignored.
    """
    in_scope, out_of_scope = _scopes(rows, column, inside, outside)
    if not in_scope or not out_of_scope:
        return _one_sided(column, outside if in_scope else inside)
    n = len(in_scope) + len(out_of_scope)
    above = [_share_below(score, out_of_scope) for score in in_scope]
    below = [1 - _share_below(score, in_scope) for score in out_of_scope]
    area = fmean(above)
    if min(len(in_scope), len(out_of_scope)) < 2:
        return Estimate(area, n, why_no_ci95="DeLong's interval needs two rows of each kind")
    half = Z95 * math.sqrt(variance(above) / len(above) + variance(below) / len(below))
    if half == 0:
        return Estimate(area, n, why_no_ci95="the rows leave no spread to judge by")
    return Estimate(area, n, (max(0.0, area - half), min(1.0, area + half)))


def _scopes(rows: Rows, column: str, inside: str, outside: str) -> list[list[float]]:
    """Returns the confidences of the in-scope rows and of the out-of-scope rows, each in ascending order."""
    groups = grouped(rows, column)
    return [sorted(numbers(groups.get(scope, []), "confidence")) for scope in (inside, outside)]


def _one_sided(column: str, missing: str) -> Estimate:
    return Estimate(None, 0, invalid_because=f"no rows with {column} = {missing}")


def _share_below(value: float, ordered: list[float]) -> float:
    """Returns the share of `ordered` below `value`, with equal values counting half."""
    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / (2 * len(ordered))
