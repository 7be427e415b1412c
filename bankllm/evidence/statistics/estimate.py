"""`Estimate`, the result type of every statistic, and helpers that several statistics share.

Standard library only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

Rows = Sequence[dict[str, str]]
"""Rows of a raw CSV file: column name → text."""
Z95 = NormalDist().inv_cdf(0.975)
"""The 0.975 quantile of the standard normal distribution, 1.96, for two-sided 95 % intervals."""


@dataclass(frozen=True)
class Estimate:
    """The result of a statistic. Its texts are saved in records and compared by the verifier: do not reword them."""

    value: float | None
    """None if the rows do not allow an estimate."""
    n: int
    """Number of samples: rows, unless the statistic says otherwise."""
    ci95: tuple[float, float] | None = None
    """95 % confidence interval."""
    why_no_ci95: str | None = None
    """Why there is a value but no interval."""
    invalid_because: str | None = None
    """Why there is no value, or why the value must not be used."""


def no_rows() -> Estimate:
    """Returns the estimate for an empty sequence of rows."""
    return Estimate(None, 0, invalid_because="no rows")


def numbers(rows: Rows, column: str) -> list[float]:
    """Returns a column as floats. Raises `KeyError` if it is missing and `ValueError` if a cell is not a number."""
    return [float(row[column]) for row in rows]


def wilson(hits: int, n: int) -> Estimate:
    """Returns the share `hits` / `n` with Wilson's score interval, which is always within 0 … 1.

    Source: Wilson, doi 10.1080/01621459.1927.10502953.
    """
    if n == 0:
        return no_rows()
    share = hits / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return Estimate(share, n, (max(0.0, centre - half), min(1.0, centre + half)))


def t95(freedom: int) -> float:
    """Returns the 0.975 quantile of Student's t distribution, for two-sided 95 % intervals.

    Solves the closed form of the distribution for integer degrees of freedom by bisection to float precision. Raises
    `ValueError` for less than 1 degree of freedom. Source: Abramowitz & Stegun, 26.7.3 and 26.7.4.
    """
    if freedom < 1:
        raise ValueError(f"Student's t needs 1 degree of freedom or more, found {freedom}")
    low, high = 0.0, 13.0  # t95(1) is 12.71
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _t_inside(middle, freedom) < 0.95 else (low, middle)
    return high


def _t_inside(t: float, freedom: int) -> float:
    """Returns P(|T| < t) for Student's t distribution."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
