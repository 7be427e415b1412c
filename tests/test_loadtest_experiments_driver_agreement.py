"""Verdicts on agreement: within tolerance, out of it, and on what was not compared at all."""

import pytest

from bankllm.loadtest.experiments.driver_agreement import bucket_of, drivers_agree, histogram_agrees, verdict
from bankllm.loadtest.load import RequestRow
from tests.queue_model import row

BOUNDS = (5, 10, 25, 50, 75, 100)


def latencies(*ms: float, times: int = 40) -> list[RequestRow]:
    return [row(kind="chat", latency_ms=each, service_ms=each) for each in ms for _ in range(times)]


def buckets(*ms: float, times: int = 40) -> list[dict[str, str | float]]:
    """The histogram that a server would have kept of these."""
    found: list[dict[str, str | float]] = [
        {"le_ms": bound, "requests": float(times * sum(each <= bound for each in ms))} for bound in BOUNDS
    ]
    return [*found, {"le_ms": "+Inf", "requests": float(times * len(ms))}]


def test_drivers_within_a_fifth_of_their_median_agree() -> None:
    rows = drivers_agree(
        {"ab": latencies(22, 22, 27, 30), "locust": latencies(20, 20, 25, 30), "open-loop": latencies(19, 20, 26, 31)},
        load="one user",
    )
    assert [(each["percentile"], each["driver"], each["agrees"]) for each in rows] == [
        (percentile, driver, "yes") for percentile in ("p50", "p95") for driver in ("ab", "locust", "open-loop")
    ]
    assert verdict(rows) == "They agree: all 6 comparisons are within tolerance."


def test_a_driver_beyond_the_tolerance_is_named_with_how_far_it_is_off() -> None:
    rows = drivers_agree(
        {"ab": latencies(20, 20, 20, 60), "locust": latencies(20, 20, 20, 30), "open-loop": latencies(20, 20, 20, 30)},
        load="one user",
    )
    assert verdict(rows) == ("They do NOT agree: 1 of 6 comparisons are out of tolerance: ab p95 (one user, +100%).")


def test_whole_milliseconds_are_no_disagreement_among_fast_replies() -> None:
    rows = drivers_agree({"ab": latencies(3, 3, 3, 3), "locust": latencies(1.2, 1.2, 1.2, 1.2)}, load="x")
    assert {each["agrees"] for each in rows} == {"yes"}
    assert {each["apart"] for each in rows} == {"+43%", "-43%"}


def test_a_tool_alone_or_with_too_few_rows_is_not_compared() -> None:
    assert drivers_agree({"ab": latencies(20, times=200)}, load="x") == []
    few = drivers_agree({"ab": latencies(20, times=100), "locust": latencies(20, times=100)}, load="x")
    assert {each["percentile"] for each in few} == {"p50"}
    assert verdict([]) == "Nothing was compared: too few samples, or one tool alone."


def test_a_histogram_agrees_where_the_percentile_falls_into_its_bucket_or_the_next() -> None:
    mine = latencies(12, 14, 26, 28)
    rows = histogram_agrees(mine, buckets(11, 13, 24, 24.9), load="x", driver="locust")
    assert [(each["percentile"], each["apart"], each["agrees"]) for each in rows] == [
        ("count", "+0 requests", "yes"),
        ("p50", "+0 buckets", "yes"),
        ("p95", "+1 buckets", "yes"),
    ]
    far = histogram_agrees(latencies(12, 14, 60, 60), buckets(12, 14, 20, 20), load="x", driver="locust")
    assert [each["agrees"] for each in far] == ["yes", "yes", "no"]


def test_requests_that_one_side_did_not_see_are_a_disagreement() -> None:
    rows = histogram_agrees(latencies(12, 14, 20), buckets(12, 14, 20, 20), load="x", driver="ab")
    assert (rows[0]["apart"], rows[0]["agrees"]) == ("+40 requests", "no")
    assert "ab count (x, +40 requests)" in verdict(rows)
    nothing = histogram_agrees([], [], load="x", driver="ab")
    assert [each["percentile"] for each in nothing] == ["count"]


@pytest.mark.parametrize(("ms", "number"), [(0, 0), (5, 0), (5.1, 1), (100, 5), (101, 6)])
def test_a_bucket_holds_its_upper_bound(ms: float, number: int) -> None:
    assert bucket_of(ms, buckets(1)) == number
