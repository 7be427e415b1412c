"""Statistics of one column, compared with SciPy, a published table, or a case computed by hand."""

import math
import random

import pytest
from scipy import stats

from bankllm.evidence.statistics import samples as s
from bankllm.evidence.statistics.statistic import Estimate
from tests.support.text_rows import text_rows


def test_mean_has_the_central_limit_interval_from_30_samples_on() -> None:
    generator = random.Random(1)
    values: list[object] = [generator.gauss(10, 2) for _ in range(400)]
    estimate = s.mean(text_rows(x=values), "x")
    low, high = stats.norm.interval(0.95, loc=sum(values) / 400, scale=stats.sem(values))
    assert estimate.value == pytest.approx(sum(values) / 400)
    assert estimate.ci95 == pytest.approx((low, high))
    assert s.mean(text_rows(x=[1, 3]), "x") == Estimate(2.0, 2, why_no_ci95="fewer than 30 samples")


@pytest.mark.parametrize(("q", "needed"), [(0.90, 64), (0.95, 130), (0.99, 662), (0.999, 6636)])
def test_samples_needed_equals_the_table_of_mlperf(q: float, needed: int) -> None:
    assert abs(s.samples_needed(q) - needed) <= 2
    n = s.samples_needed(q)
    assert stats.binom.cdf(1, n, 1 - q) <= 0.01 < stats.binom.cdf(1, n - 1, 1 - q)


def test_percentile_is_nearest_rank_and_its_interval_covers_the_truth() -> None:
    """For many samples from a known distribution, about 95 % of the intervals contain the true percentile."""
    random_numbers = random.Random(7)
    truth = stats.expon.ppf(0.95)
    hits = 0
    for _ in range(400):
        sample = [random_numbers.expovariate(1) for _ in range(300)]
        estimate = s.percentile(text_rows(x=sample), "x", 0.95)
        assert estimate.value == sorted(sample)[math.ceil(0.95 * 300) - 1]
        assert estimate.ci95 is not None
        hits += estimate.ci95[0] <= truth <= estimate.ci95[1]
    assert 0.93 <= hits / 400 <= 0.99


def test_percentile_of_too_few_samples_is_none_and_a_percentage_is_refused() -> None:
    estimate = s.percentile(text_rows(x=[*range(200)]), "x", 0.99)
    assert estimate.value is None
    assert estimate.invalid_because == f"p99 needs {s.samples_needed(0.99)} samples, there are 200"
    with pytest.raises(ValueError, match="between 0 and 1, found 95"):
        s.samples_needed(95)


def test_proportion_counts_a_value_and_single_requires_one_row() -> None:
    estimate = s.proportion(text_rows(status=[200, 500, 200, 200]), "status", "200")
    assert (estimate.value, estimate.n) == (0.75, 4)
    assert s.single(text_rows(x=[2.5]), "x").value == 2.5
    assert s.single(text_rows(x=[1, 2]), "x").invalid_because == "expected one row, found 2"


def test_histogram_quantile_interpolates_like_prometheus() -> None:
    """PromQL interpolates: 900 of 1,000 are at most 0.1 and all at most 0.25, so p95 is in the middle of the bucket."""
    buckets = text_rows(le=["0.05", "0.1", "0.25", "+Inf"], total=[500, 900, 1000, 1000])
    assert s.histogram_quantile(buckets, "le", "total", 0.95).value == pytest.approx(0.1 + 0.15 * 0.5)
    above_last_bound = text_rows(le=["0.05", "0.1", "+Inf"], total=[500, 900, 1000])
    assert s.histogram_quantile(above_last_bound, "le", "total", 0.95).value == 0.1


def test_growth_excludes_the_first_minute() -> None:
    rows = [{"at": str(at), "rss": "900" if at < 60 else "100"} for at in range(0, 600, 10)]
    for row in rows[-18:]:
        row["rss"] = "104"
    estimate = s.growth(rows, "at", "rss")
    assert estimate.value == pytest.approx(0.04)
    assert estimate.n == 54
    short = text_rows(at=[*range(0, 40, 5)], rss=[50, 100, 90, 95, 80, 99, 90, 91])
    assert s.growth(short, "at", "rss").value == pytest.approx(90.5 / 92.5 - 1)  # from 7 s on: a fifth of 35 s
    assert s.growth(rows[:7], "at", "rss").invalid_because == "6 samples are needed after warming up, found 5"


@pytest.mark.parametrize(("pick", "value"), [("min", 10), ("median", 11), ("max", 14), ("spread", 4 / 11)])
def test_across_picks_from_the_values_of_groups(pick: str, value: float) -> None:
    rows = text_rows(run=[1, 2, 3], x=[10, 14, 11])
    estimate = s.across(rows, "run", pick, "single", column="x")
    assert estimate.value == pytest.approx(value)
    assert estimate.why_no_ci95 == f"{pick} of 3: run 1, 2, 3"


def test_across_names_a_group_without_a_value_and_needs_two_groups() -> None:
    rows = text_rows(run=[1, 1, 2], x=[1, 2, 1])
    assert s.across(rows, "run", "max", "single", column="x").invalid_because == "1: expected one row, found 2"
    assert s.across(rows[2:], "run", "max", "single", column="x").invalid_because == "two groups are needed, found 1"
