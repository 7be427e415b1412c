"""Agreement of the drivers: within tolerance, out of tolerance, and not compared."""

import pytest

from bankllm.loadtest.experiments.driver_agreement import drivers_agree, histogram_agrees, verdict
from bankllm.loadtest.load import RequestRow
from tests.support.queue_model import row

BOUNDS = (5, 10, 25, 50, 75, 100)


def latencies(*ms: float, times: int = 40) -> list[RequestRow]:
    return [row(kind="chat", latency_ms=each, service_ms=each) for each in ms for _ in range(times)]


def buckets(*ms: float, times: int = 40) -> list[dict[str, str | float]]:
    """Return the histogram of a server for these latencies in ms."""
    bounded: list[dict[str, str | float]] = [
        {"le_ms": bound, "requests": float(times * sum(each <= bound for each in ms))} for bound in BOUNDS
    ]
    return [*bounded, {"le_ms": "+Inf", "requests": float(times * len(ms))}]


def test_drivers_within_20_percent_of_their_median_agree() -> None:
    rows = drivers_agree(
        {"ab": latencies(22, 22, 27, 30), "locust": latencies(20, 20, 25, 30), "open-loop": latencies(19, 20, 26, 31)},
        load="one user",
    )
    assert [(each["percentile"], each["driver"], each["agrees"]) for each in rows] == [
        (percentile, driver, "yes") for percentile in ("p50", "p95") for driver in ("ab", "locust", "open-loop")
    ]
    assert verdict(rows) == "They agree: all 6 comparisons are within tolerance."


def test_a_driver_out_of_tolerance_is_named_with_its_difference() -> None:
    rows = drivers_agree(
        {"ab": latencies(20, 20, 20, 60), "locust": latencies(20, 20, 20, 30), "open-loop": latencies(20, 20, 20, 30)},
        load="one user",
    )
    assert verdict(rows) == ("They do NOT agree: 1 of 6 comparisons are out of tolerance: ab p95 (one user, +100%).")


def test_a_difference_of_the_resolution_of_ab_counts_as_agreement() -> None:
    rows = drivers_agree({"ab": latencies(3, 3, 3, 3), "locust": latencies(1.2, 1.2, 1.2, 1.2)}, load="x")
    assert {each["agrees"] for each in rows} == {"yes"}
    assert {each["apart"] for each in rows} == {"+43%", "-43%"}


def test_a_single_tool_or_one_with_too_few_rows_is_not_compared() -> None:
    assert drivers_agree({"ab": latencies(20, times=200)}, load="x") == []
    few = drivers_agree({"ab": latencies(20, times=100), "locust": latencies(20, times=100)}, load="x")
    assert {each["percentile"] for each in few} == {"p50"}
    assert verdict([]) == "Nothing was compared: there were too few samples, or only one tool."


def test_a_histogram_agrees_if_the_percentiles_are_at_most_one_bucket_apart() -> None:
    mine = latencies(12, 14, 26, 28)
    rows = histogram_agrees(mine, buckets(11, 13, 24, 24.9), load="x", driver="locust")
    assert [(each["percentile"], each["apart"], each["agrees"]) for each in rows] == [
        ("count", "+0 requests", "yes"),
        ("p50", "+0 buckets", "yes"),
        ("p95", "+1 buckets", "yes"),
    ]
    far = histogram_agrees(latencies(12, 14, 60, 60), buckets(12, 14, 20, 20), load="x", driver="locust")
    assert [each["agrees"] for each in far] == ["yes", "yes", "no"]
    rows = histogram_agrees(latencies(12, 14, 20), buckets(12, 14, 20, 20), load="x", driver="ab")
    assert (rows[0]["apart"], rows[0]["agrees"]) == ("+40 requests", "no")
    assert "ab count (x, +40 requests)" in verdict(rows)


@pytest.mark.parametrize(("ms", "apart"), [(0, 0), (5, 0), (5.1, 1), (100, 5), (101, 6)])
def test_a_bucket_includes_its_upper_bound(ms: float, apart: int) -> None:
    rows = histogram_agrees(latencies(ms), buckets(0), load="x", driver="ab")
    assert rows[1]["apart"] == f"{apart:+d} buckets"
