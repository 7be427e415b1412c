"""`statistic` registers a statistic: a pure function from the rows of a raw CSV file to an `Estimate`.

    @statistic(unit="share", better="lower", tolerance=0.01)
    def late(rows: Rows, column: str, after_ms: float) -> Estimate:
        return wilson(sum(value > after_ms for value in numbers(rows, column)), len(rows))

String arguments are column names.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import update_wrapper
from statistics import NormalDist
from typing import Concatenate, Generic, Literal, ParamSpec

from bankllm.util.registry import Registry

P = ParamSpec("P")
Rows = Sequence[dict[str, str]]
"""Rows of a raw CSV file: column name → text."""
Better = Literal["higher", "lower"]
Z95 = NormalDist().inv_cdf(0.975)
"""The 0.975 quantile of the standard normal distribution, 1.96, for two-sided 95 % intervals."""
T95 = (
    12.706204736175, 4.3026527297495, 3.1824463052837, 2.7764451051978, 2.5705818356363, 2.446911851145,
    2.3646242515928, 2.3060041352042, 2.2621571627982, 2.2281388519863, 2.2009851600916, 2.1788128296672,
    2.1603686564628, 2.1447866879178, 2.1314495455598, 2.1199052992213, 2.1098155778333, 2.100922040241,
    2.0930240544083, 2.0859634472659, 2.0796138447277, 2.073873067904, 2.068657610419, 2.063898561628,
    2.0595385527533, 2.0555294386429, 2.0518305164803, 2.0484071417952, 2.0452296421327, 2.0422724563012,
)  # fmt: skip
"""The same for Student's t distribution with 1, 2, … 30 degrees of freedom."""
COLUMN, COUNT, PER_SECOND = "column", "count", "*/s"
"""Values of `Statistic.unit`: the unit follows from the name of the column, names what is counted, or ends in `/s`."""


@dataclass(frozen=True)
class Estimate:
    """The result of a statistic. Its texts are saved in records and compared by the verifier: do not reword them."""

    value: float | None
    """None if the rows do not allow an estimate."""
    n: int
    """Number of samples: rows, unless the statistic says otherwise."""
    ci95: tuple[float, float] | None = None
    why_no_ci95: str | None = None
    """Why there is a value but no interval."""
    invalid_because: str | None = None
    """Why there is no value, or why the value must not be used."""


@dataclass(eq=False)
class Statistic(Generic[P]):
    """A statistic and what verification and the comparison of runs need to know about it. Call it as its function."""

    compute: Callable[Concatenate[Rows, P], Estimate]
    unit: str
    """Unit that a record must have: a fixed one such as `share`, `{amount}/s` with the value of a parameter, `COLUMN`,
    `COUNT` or `PER_SECOND`."""
    better: Better | None
    """Which value is better, by which `report --compare` calls a difference better or worse; None: the unit decides."""
    tolerance: float
    """How far a repeated value may lie away, for `reproduce`: less than 1 is a difference of a share without an
    interval, 1 or more is a factor, for a time, rate or size on the same machine."""

    def __call__(self, rows: Rows, *args: P.args, **kwargs: P.kwargs) -> Estimate:
        """Computes the estimate. Without rows it is invalid, except that of a count."""
        if not rows and self.unit != COUNT:
            return Estimate(None, 0, invalid_because="no rows")
        return self.compute(rows, *args, **kwargs)


STATISTICS: Registry[Statistic[...]] = Registry("statistic", "bankllm.statistics", "bankllm.evidence.statistics")


def statistic(
    *, unit: str, better: Better | None = None, tolerance: float = 1.5
) -> Callable[[Callable[Concatenate[Rows, P], Estimate]], Statistic[P]]:
    """Registers a function under its name; the arguments are the fields of `Statistic`."""

    def register(function: Callable[Concatenate[Rows, P], Estimate]) -> Statistic[P]:
        made = Statistic(function, unit, better, tolerance)
        update_wrapper(made, function)
        STATISTICS.add(function.__name__, made)
        return made

    return register


def numbers(rows: Rows, column: str) -> list[float]:
    """Returns a column as floats. Raises `KeyError` if it is missing and `ValueError` if a cell is not a number."""
    return [float(row[column]) for row in rows]


def grouped(rows: Rows, column: str) -> dict[str, list[dict[str, str]]]:
    """Returns value of the column → its rows."""
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def wilson(hits: int, n: int) -> Estimate:
    """Returns the share `hits` / `n` with Wilson's score interval, which is always within 0 … 1.

    Source: Wilson, doi 10.1080/01621459.1927.10502953.
    """
    share = hits / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n * n))
    return Estimate(share, n, (max(0.0, centre - half), min(1.0, centre + half)))
