"""Agreement of the drivers: within tolerance, out of tolerance, and not compared."""

from dataclasses import replace

import pytest

from bankllm.loadtest.experiments.driver_agreement import drivers_agree, histogram_agrees, streams_agree, verdict
from bankllm.loadtest.load import LoadResult, RequestRow, piece_rows
from bankllm.loadtest.load import row as load_row
from tests.support.queue_model import result, row

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


def test_streams_are_compared_by_their_tokens() -> None:
    def streamed(gap_s: float) -> LoadResult:
        times = [[n + 0.2 + gap_s * place for place in range(5)] for n in range(20)]
        pieces = [piece for n, mine in enumerate(times) for piece in piece_rows(n, n, mine)]
        found = result("open-loop", [load_row(n, n + 1.0) for n in range(20)], rate=1)
        return replace(found, pieces=pieces)

    rows = streams_agree({"open-loop": streamed(0.1), "guidellm": streamed(0.15)}, load="x")
    names = ("first token p50", "between tokens mean", "whole p50", "tokens/s")
    assert [(row["percentile"], row["driver"]) for row in rows] == [
        (name, driver) for name in names for driver in ("open-loop", "guidellm")
    ]
    values = {(row["percentile"], row["driver"]): row["driver_ms"] for row in rows}
    assert values["first token p50", "guidellm"] == pytest.approx(200)
    assert values["between tokens mean", "guidellm"] == pytest.approx(150)
    assert values["tokens/s", "open-loop"] == pytest.approx(100 / 19.4)
    assert {row["percentile"] for row in rows if row["agrees"] == "no"} == set()
    assert streams_agree({"open-loop": streamed(0.1)}, load="x") == []


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
