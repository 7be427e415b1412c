"""Statistics of rankings: recall, reciprocal rank and nDCG, and the paired comparison of two rankings.

Each row is one query. A column of places holds the places of the right texts among the first ones that a search found,
in ascending order: `1 4` if the first and the fourth text are right, empty if none is. `relevant` is the number of
right texts that the search could have found.
"""

import math
import random
from operator import mul, sub

from bankllm.evidence.statistics.samples import mean
from bankllm.evidence.statistics.statistic import Estimate, Rows, statistic, wilson

FLIPS = 5000


@statistic(unit="share", better="higher")
def recall_at(rows: Rows, places: str, k: int) -> Estimate:
    """Share of queries with a right text among the first `k`, with Wilson's score interval."""
    return wilson(sum(any(place <= k for place in _places(row[places])) for row in rows), len(rows))


@statistic(unit="share", better="higher")
def reciprocal_rank(rows: Rows, places: str) -> Estimate:
    """Mean of 1 / place of the first right text (MRR), 0 for a query without one; interval as that of `mean`."""
    return _mean([1 / min(_places(row[places]), default=math.inf) for row in rows])


@statistic(unit="share", better="higher")
def ndcg(rows: Rows, places: str, k: int = 10) -> Estimate:
    """Mean normalised discounted cumulative gain of the first `k` texts, each right or wrong; interval as of `mean`.

    Source: Järvelin & Kekäläinen, doi 10.1145/582415.582418.
    """
    return _mean(_gains(rows, places, k))


@statistic(unit="share")
def ndcg_difference(rows: Rows, a: str, b: str, k: int = 10) -> Estimate:
    """`ndcg` of the places `a` minus that of `b` for the same queries; the interval is that of the mean of pairs."""
    return _mean(list(map(sub, _gains(rows, a, k), _gains(rows, b, k))))


@statistic(unit="p")
def ndcg_permutation(rows: Rows, a: str, b: str, k: int = 10) -> Estimate:
    """The two-sided p-value of the paired permutation test of `ndcg_difference`.

    The sign of each query's difference is drawn at random `FLIPS` times, with a fixed seed. p is the share of draws,
    the observed one included, whose sum is at least as far from 0.
    Source: Smucker, Allan & Carterette, doi 10.1145/1321440.1321528.
    """
    pairs = map(sub, _gains(rows, a, k), _gains(rows, b, k))
    differences = [difference for difference in pairs if difference]
    observed = abs(math.fsum(differences)) - 1e-9  # a sum in another order differs in its last bits
    draw = random.Random(0)
    sums = (sum(map(mul, differences, draw.choices((-1, 1), k=len(differences)))) for _ in range(FLIPS))
    extreme = sum(abs(total) >= observed for total in sums)
    return Estimate((extreme + 1) / (FLIPS + 1), len(rows), why_no_ci95="a p-value has no interval")


def _places(cell: str) -> list[int]:
    return [int(place) for place in cell.split()]


def _gains(rows: Rows, places: str, k: int) -> list[float]:
    """Returns nDCG@k per row."""
    best = [math.fsum(1 / math.log2(1 + place) for place in range(1, count + 1)) for count in range(k + 1)]
    return [
        math.fsum(1 / math.log2(1 + place) for place in _places(row[places]) if place <= k)
        / best[min(k, int(row["relevant"]))]
        for row in rows
    ]


def _mean(values: list[float]) -> Estimate:
    return mean([{"value": repr(value)} for value in values], "value")
