"""Each statistic against SciPy, a published table, or a case worked by hand."""

import csv
import io
import math
import random

import pytest
from scipy import stats

from bankllm.evidence import statistics as s


def rows(**columns: list[object]) -> list[dict[str, str]]:
    return [dict(zip(columns, map(str, values), strict=True)) for values in zip(*columns.values(), strict=True)]


def test_mean_has_the_central_limit_interval() -> None:
    generator = random.Random(1)
    values = [generator.gauss(10, 2) for _ in range(400)]
    estimate = s.mean(rows(x=values), "x")
    low, high = stats.norm.interval(0.95, loc=sum(values) / 400, scale=stats.sem(values))
    assert estimate.value == pytest.approx(sum(values) / 400)
    assert estimate.ci95 == pytest.approx((low, high))


def test_mean_of_few_samples_gives_no_interval_and_says_why() -> None:
    assert s.mean(rows(x=[1, 3]), "x") == s.Estimate(2.0, 2, why_no_ci95="fewer than 30 samples")


@pytest.mark.parametrize(("q", "needed"), [(0.90, 64), (0.95, 130), (0.99, 662), (0.999, 6636)])
def test_samples_needed_is_mlperfs_table(q: float, needed: int) -> None:
    assert abs(s.samples_needed(q) - needed) <= 2
    n = s.samples_needed(q)
    assert stats.binom.cdf(1, n, 1 - q) <= 0.01 < stats.binom.cdf(1, n - 1, 1 - q)


def test_percentile_is_nearest_rank_and_its_interval_covers() -> None:
    """Of many samples from a known distribution, about 95 % of the intervals hold the true percentile."""
    random_numbers = random.Random(7)
    truth = stats.expon.ppf(0.95)
    hits = 0
    for _ in range(400):
        sample = [random_numbers.expovariate(1) for _ in range(300)]
        estimate = s.percentile(rows(x=sample), "x", 0.95)
        assert estimate.value == sorted(sample)[math.ceil(0.95 * 300) - 1]
        assert estimate.ci95 is not None
        hits += estimate.ci95[0] <= truth <= estimate.ci95[1]
    assert 0.93 <= hits / 400 <= 0.99


def test_percentile_of_too_few_samples_is_none() -> None:
    estimate = s.percentile(rows(x=range(200)), "x", 0.99)
    assert estimate.value is None
    assert estimate.invalid_because == f"p99 needs {s.samples_needed(0.99)} samples, there are 200"


def test_samples_needed_refuses_a_percentage() -> None:
    with pytest.raises(ValueError, match="between 0 and 1, found 95"):
        s.samples_needed(95)


@pytest.mark.parametrize(("hits", "n"), [(0, 50), (50, 50), (2864, 3080), (7, 9)])
def test_wilson_agrees_with_scipy(hits: int, n: int) -> None:
    answer = rows(predicted=["a"] * n, actual=["a"] * hits + ["b"] * (n - hits))
    estimate = s.accuracy(answer)
    expected = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert estimate.value == hits / n
    assert estimate.ci95 == pytest.approx((expected.low, expected.high))


def test_proportion_counts_a_value() -> None:
    estimate = s.proportion(rows(status=[200, 500, 200, 200]), "status", "200")
    assert (estimate.value, estimate.n) == (0.75, 4)


def test_macro_f1_by_hand() -> None:
    """a: TP 2, FP 1, FN 0 → 0.8; b: TP 1, FP 0, FN 1 → 2/3; c: only ever predicted wrongly → 0."""
    answer = rows(actual=["a", "a", "b", "b"], predicted=["a", "a", "b", "a"])
    assert s.macro_f1(answer).value == pytest.approx((0.8 + 2 / 3) / 2)
    stray = rows(actual=["a", "a"], predicted=["a", "c"])
    assert s.macro_f1(stray).value == pytest.approx((2 / 3 + 0) / 2)


def test_throughput_counts_from_first_start_to_last_end() -> None:
    assert s.throughput(rows(t0=[1.0, 1.5, 2.0], t1=[2.0, 2.0, 4.0]), "t0", "t1").value == pytest.approx(1.0)
    assert s.throughput(rows(t0=[1.0], t1=[1.0]), "t0", "t1").invalid_because == "the rows span no time"


def test_single_wants_one_row() -> None:
    assert s.single(rows(x=[2.5]), "x").value == 2.5
    assert s.single(rows(x=[1, 2]), "x").invalid_because == "expected one row, found 2"


def test_histogram_quantile_interpolates_like_prometheus() -> None:
    """PromQL's own worked rule: 900 of 1,000 below 0.1 and all below 0.25 → p95 half-way through that bucket."""
    buckets = rows(le=["0.05", "0.1", "0.25", "+Inf"], total=[500, 900, 1000, 1000])
    assert s.histogram_quantile(buckets, "le", "total", 0.95).value == pytest.approx(0.1 + 0.15 * 0.5)
    beyond = rows(le=["0.05", "0.1", "+Inf"], total=[500, 900, 1000])
    assert s.histogram_quantile(beyond, "le", "total", 0.95).value == 0.1


@pytest.mark.parametrize("name", ["maximum", "mean", "macro_f1", "accuracy", "throughput", "proportion"])
def test_no_rows_give_no_value(name: str) -> None:
    arguments = {"maximum": ["x"], "mean": ["x"], "throughput": ["a", "b"], "proportion": ["x", "1"]}
    assert s.STATISTICS[name]([], *arguments.get(name, [])).invalid_because == "no rows"


def test_a_float_survives_the_way_through_csv() -> None:
    """What verify compares was once written to CSV: the shortest repr must give the same float back."""
    value = 0.1 + 0.2
    buffer = io.StringIO()
    csv.writer(buffer).writerow([value])
    assert s.single([{"x": buffer.getvalue().strip()}], "x").value == value
