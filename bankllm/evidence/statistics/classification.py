"""Statistics of classifiers: how often right, how sure of it, how like each other, how wary of foreign questions.

A row is one text: `actual` and `predicted` label names, `confidence` 0 … 1, `seed` where several trainings share
the file. Standard library alone; registered in `statistics.py`.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from itertools import groupby
from statistics import fmean, stdev, variance

from bankllm.evidence.statistics.estimate import Z95, Estimate, Rows, no_rows, numbers, t95, wilson


def accuracy(rows: Rows, predicted: str = "predicted", actual: str = "actual") -> Estimate:
    """Share of rows whose prediction is right, with Wilson's score interval."""
    return wilson(sum(row[predicted] == row[actual] for row in rows), len(rows))


def macro_f1(rows: Rows, predicted: str = "predicted", actual: str = "actual") -> Estimate:
    """Mean over the classes of 2TP / (2TP + FP + FN); classes are those that occur as `actual` or `predicted`."""
    if not rows:
        return no_rows()
    true = Counter(row[actual] for row in rows if row[predicted] == row[actual])
    said = Counter(row[predicted] for row in rows)
    real = Counter(row[actual] for row in rows)
    scores = [2 * true[label] / (said[label] + real[label]) for label in sorted(said | real)]
    return Estimate(fmean(scores), len(rows), why_no_ci95="macro-F1 has no closed-form interval")


def accuracy_over_seeds(
    rows: Rows, seed: str = "seed", predicted: str = "predicted", actual: str = "actual"
) -> Estimate:
    """Mean accuracy of several trainings; `n` counts seeds.

    The interval, mean ± t s/√n by Student's t, is for another seed on the same texts: that other texts would give
    another accuracy is not in it (`accuracy` has that).
    """
    shares, problem = _by_seed(rows, seed, predicted, actual)
    if problem:
        return Estimate(None, len(shares), invalid_because=problem)
    average = fmean(shares)
    if len(shares) < 2:
        return Estimate(average, 1, why_no_ci95="one seed shows no spread")
    if not (spread := stdev(shares)):
        return Estimate(average, len(shares), why_no_ci95="every seed has the same accuracy: no spread to judge by")
    half = t95(len(shares) - 1) * spread / math.sqrt(len(shares))
    return Estimate(average, len(shares), (max(0.0, average - half), min(1.0, average + half)))


def accuracy_sd_over_seeds(
    rows: Rows, seed: str = "seed", predicted: str = "predicted", actual: str = "actual"
) -> Estimate:
    """Sample standard deviation (n − 1) of the accuracies of several trainings; `n` counts seeds."""
    shares, problem = _by_seed(rows, seed, predicted, actual)
    if len(shares) < 2 and not problem:
        problem = "a standard deviation needs 2 seeds, there is 1"
    if problem:
        return Estimate(None, len(shares), invalid_because=problem)
    return Estimate(stdev(shares), len(shares), why_no_ci95="the spread of a few seeds says little of its own error")


def _by_seed(rows: Rows, seed: str, predicted: str, actual: str) -> tuple[list[float], str | None]:
    """The accuracy of each seed, and what forbids comparing them."""
    hits: defaultdict[str, list[bool]] = defaultdict(list)
    for row in rows:
        hits[row[seed]].append(row[predicted] == row[actual])
    sizes = sorted({len(mine) for mine in hits.values()})
    problem = None if hits else "no rows"
    if len(sizes) > 1:
        problem = f"the seeds answered unlike numbers of texts ({sizes[0]} to {sizes[-1]})"
    return [fmean(mine) for mine in hits.values()], problem


def mcnemar(rows: Rows, a: str, b: str, actual: str = "actual") -> Estimate:
    """Exact two-sided McNemar test of two classifiers on the same texts: the p-value of "equally often right".

    Columns `a` and `b` hold their predictions. Of the texts that one alone has right, each would have half:
    P = 2 P(Binomial(b + c, ½) ≤ min(b, c)), at most 1, in whole numbers (doi 10.1007/BF02295996).
    """
    if not rows:
        return no_rows()
    only_a, only_b = _discordant(rows, a, b, actual)
    trials, fewer = only_a + only_b, min(only_a, only_b)
    ways = total = 1
    for k in range(1, fewer + 1):
        ways = ways * (trials - k + 1) // k
        total += ways
    return Estimate(min(1.0, 2 * total / 2**trials), len(rows), why_no_ci95="a p-value has no interval")


def accuracy_difference(rows: Rows, a: str, b: str, actual: str = "actual") -> Estimate:
    """Accuracy of `a` minus that of `b` on the same texts, with an interval for paired shares.

    Agresti & Min's adjusted Wald interval (doi 10.1002/sim.1781): half a text is added to each of the four cells,
    which keeps it near 95 % where few texts differ.
    """
    if not rows:
        return no_rows()
    only_a, only_b = _discordant(rows, a, b, actual)
    n = len(rows) + 2
    centre = (only_a - only_b) / n
    half = Z95 * math.sqrt(only_a + only_b + 1 - n * centre**2) / n
    return Estimate((only_a - only_b) / len(rows), len(rows), (max(-1.0, centre - half), min(1.0, centre + half)))


def _discordant(rows: Rows, a: str, b: str, actual: str) -> tuple[int, int]:
    """How many texts `a` alone has right, and `b` alone."""
    pairs = [(row[a] == row[actual], row[b] == row[actual]) for row in rows]
    return pairs.count((True, False)), pairs.count((False, True))


def expected_calibration_error(
    rows: Rows,
    confidence: str = "confidence",
    predicted: str = "predicted",
    actual: str = "actual",
    bins: int = 15,
) -> Estimate:
    """Mean distance of confidence from accuracy over equal-width bins ((m − 1)/M, m/M], weighted by their rows.

    Source: Guo et al., arXiv 1706.04599, equation 3.
    """
    if not rows:
        return no_rows()
    gaps = [0.0] * bins
    for sure, row in zip(numbers(rows, confidence), rows, strict=True):
        gaps[max(0, math.ceil(sure * bins) - 1)] += (row[predicted] == row[actual]) - sure
    return Estimate(sum(map(abs, gaps)) / len(rows), len(rows), why_no_ci95="a binned estimate, biased upwards")


def aurc(rows: Rows, confidence: str = "confidence", predicted: str = "predicted", actual: str = "actual") -> Estimate:
    """Area under the risk–coverage curve: the mean, over k, of the share of errors among the k surest rows.

    Source: Geifman & El-Yaniv, arXiv 1705.08500. Rows of one confidence share their errors evenly, so that their
    order in the file does not matter.
    """
    if not rows:
        return no_rows()
    ordered = sorted(((float(row[confidence]), row[predicted] != row[actual]) for row in rows), reverse=True)
    errors = 0.0
    risks: list[float] = []
    for _, group in groupby(ordered, key=lambda pair: pair[0]):
        tied = [wrong for _, wrong in group]
        for _ in tied:
            errors += sum(tied) / len(tied)
            risks.append(errors / (len(risks) + 1))
    return Estimate(fmean(risks), len(rows), why_no_ci95="the area has no closed-form interval")


def rejected(rows: Rows, threshold: float, confidence: str = "confidence") -> Estimate:
    """Share of rows whose confidence lies below the threshold (abstentions), with Wilson's score interval."""
    return wilson(sum(sure < threshold for sure in numbers(rows, confidence)), len(rows))


def recall_at_false_rejects(
    rows: Rows,
    false_rejects: float = 0.05,
    confidence: str = "confidence",
    column: str = "in_scope",
    inside: str = "yes",
    outside: str = "no",
) -> Estimate:
    """Share of out-of-scope rows rejected where at most a share `false_rejects` of the in-scope rows is.

    `column` tells the two apart; rows that hold neither value do not count. The threshold is the highest that
    these in-scope rows allow; Wilson's interval, over the out-of-scope rows, takes it as given.
    """
    kept, foreign = _scopes(rows, confidence, column, inside, outside)
    if not kept or not foreign:
        return _one_sided(column, kept, inside, outside)
    allowed = math.floor(false_rejects * len(kept) + 1e-9)
    threshold = kept[allowed] if allowed < len(kept) else math.inf
    return wilson(sum(sure < threshold for sure in foreign), len(foreign))


def auroc(
    rows: Rows, confidence: str = "confidence", column: str = "in_scope", inside: str = "yes", outside: str = "no"
) -> Estimate:
    """P(an in-scope row is surer than an out-of-scope one), ties counting half: Mann–Whitney's U over its maximum.

    The interval is DeLong's (doi 10.2307/2531595). Rows that hold neither value in `column` do not count.
    """
    kept, foreign = _scopes(rows, confidence, column, inside, outside)
    if not kept or not foreign:
        return _one_sided(column, kept, inside, outside)
    n = len(kept) + len(foreign)
    above = [_share_below(sure, foreign) for sure in kept]
    below = [1 - _share_below(sure, kept) for sure in foreign]
    area = fmean(above)
    if min(len(kept), len(foreign)) < 2:
        return Estimate(area, n, why_no_ci95="DeLong's interval needs two rows of each kind")
    half = Z95 * math.sqrt(variance(above) / len(above) + variance(below) / len(below))
    if half == 0:
        return Estimate(area, n, why_no_ci95="the rows leave no spread to judge by")
    return Estimate(area, n, (max(0.0, area - half), min(1.0, area + half)))


def _scopes(rows: Rows, confidence: str, column: str, inside: str, outside: str) -> tuple[list[float], list[float]]:
    """The confidences of both kinds of rows, ascending."""
    kinds: dict[str, list[float]] = {inside: [], outside: []}
    for row in rows:
        if row[column] in kinds:
            kinds[row[column]].append(float(row[confidence]))
    return sorted(kinds[inside]), sorted(kinds[outside])


def _one_sided(column: str, kept: list[float], inside: str, outside: str) -> Estimate:
    missing = outside if kept else inside
    return Estimate(None, 0, invalid_because=f"no rows with {column} = {missing}")


def _share_below(value: float, ordered: list[float]) -> float:
    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / (2 * len(ordered))
