"""What every statistic gives, and what several of them need: Wilson's interval, a column's numbers.

Standard library alone; `statistics.py` holds the list of all statistics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

Rows = Sequence[dict[str, str]]
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """A value with its number of samples and 95 % interval; `why_no_ci95` or `invalid_because` say what is missing."""

    value: float | None
    n: int
    ci95: tuple[float, float] | None = None
    why_no_ci95: str | None = None
    invalid_because: str | None = None


def no_rows() -> Estimate:
    """What a statistic of nothing is."""
    return Estimate(None, 0, invalid_because="no rows")


def numbers(rows: Rows, column: str) -> list[float]:
    """A column as numbers. Raises `KeyError` or `ValueError` where it is missing or holds something else."""
    return [float(row[column]) for row in rows]


def wilson(hits: int, n: int) -> Estimate:
    """A share with Wilson's score interval (doi 10.1080/01621459.1927.10502953), which stays inside 0 … 1."""
    if n == 0:
        return no_rows()
    share = hits / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return Estimate(share, n, (max(0.0, centre - half), min(1.0, centre + half)))


def t95(freedom: int) -> float:
    """Student's t at 0.975, from the closed form of its distribution for whole degrees of freedom.

    Source: Abramowitz & Stegun, 26.7.3 and 26.7.4; solved by bisection to the last digits of a float.
    """
    if freedom < 1:
        raise ValueError(f"Student's t needs 1 degree of freedom or more, found {freedom}")
    low, high = 0.0, 13.0  # t95(1) is 12.71
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _t_inside(middle, freedom) < 0.95 else (low, middle)
    return high


def _t_inside(t: float, freedom: int) -> float:
    """P(|T| < t)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
