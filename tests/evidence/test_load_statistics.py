"""Goodput, knee, growth and spread over groups, compared with cases computed by hand."""

from typing import Any

import pytest

from bankllm.evidence.statistics import registry as s

SERVED: dict[str, Any] = {
    "start": "due",
    "end": "done",
    "latency": "ms",
    "error": "error",
    "objective_ms": 500,
}


def step(
    offered: float, *, ms: float = 20, slow: int = 0, failed: int = 0, late_s: float = 0.0
) -> list[dict[str, str]]:
    """200 requests, evenly spaced at `offered` per second; `slow` take 600 ms, the last one `late_s` seconds longer."""
    requests = []
    for number in range(200):
        due, took = number / offered, 600 if number < slow else ms
        done = due + took / 1000 + (late_s if number == 199 else 0)
        error = "HTTP 503" if number < failed else ""
        requests.append({"offered": offered, "due": due, "done": done, "ms": 1000 * (done - due), "error": error})
    return [{name: str(value) for name, value in row.items()} for row in requests]


def test_goodput_excludes_failed_and_late_requests() -> None:
    rows = step(100, slow=10, failed=4)  # the failed requests are also slow
    estimate = s.goodput(rows, **SERVED)
    assert estimate.value == pytest.approx(190 / (199 / 100 + 0.02))
    assert estimate.n == 200
    assert s.goodput([], **SERVED).invalid_because == "no rows"
    assert s.goodput([rows[0] | {"done": rows[0]["due"]}], **SERVED).invalid_because == "the rows span no time"


def test_the_knee_is_the_last_rate_before_the_first_that_is_too_high() -> None:
    rows = (
        step(50) + step(10) + step(20) + step(40, slow=11)
    )  # p95 of 200 is the 190th value: 11 slow requests reach it
    estimate = s.knee(rows, "offered", **SERVED)
    assert (estimate.value, estimate.n, estimate.invalid_because) == (20, 800, None)
    assert estimate.why_no_ci95 == "one sweep: 40/s was too much, none between"


@pytest.mark.parametrize(
    ("worse", "value"),
    [
        ({"slow": 10}, 50),  # with 10 slow requests the percentile is within the objective
        ({"slow": 11}, 10),
        ({"failed": 1}, 10),
        ({"late_s": 0.2}, 50),  # (199/40) / (199/40 + 0.22) is over 95 %
        ({"late_s": 0.3}, 10),
    ],
)
def test_a_rate_is_sustained_only_within_the_limits_of_latency_errors_and_throughput(
    worse: dict[str, Any], value: float
) -> None:
    estimate = s.knee(step(10) + step(40, **worse) + step(50) + step(60, failed=1), "offered", **SERVED)
    assert estimate.value == value


def test_a_knee_outside_the_sweep_is_invalid_with_a_reason() -> None:
    assert s.knee(step(10) + step(20), "offered", **SERVED).invalid_because == (
        "no rate was too much: the knee lies higher"
    )
    below = s.knee(step(10, failed=1) + step(20), "offered", **SERVED)
    assert (below.value, below.invalid_because) == (None, "10/s, the lowest rate, was already too much")
    few = s.knee(step(10) + step(20)[:100], "offered", **SERVED)
    assert (few.value, few.invalid_because) == (None, "at 20/s p95 needs 130 samples, there are 100")


def test_growth_excludes_the_first_minute() -> None:
    rows = [{"at": str(at), "rss": "900" if at < 60 else "100"} for at in range(0, 600, 10)]
    for row in rows[-18:]:
        row["rss"] = "104"
    estimate = s.growth(rows, "at", "rss")
    assert estimate.value == pytest.approx(0.04)
    assert estimate.n == 54
    short = [
        {"at": str(at), "rss": str(rss)}
        for at, rss in zip(range(0, 40, 5), (50, 100, 90, 95, 80, 99, 90, 91), strict=True)
    ]
    assert s.growth(short, "at", "rss").value == pytest.approx(90.5 / 92.5 - 1)  # from 7 s on: a fifth of 35 s
    assert s.growth(rows[:4], "at", "rss").invalid_because == "6 samples are needed after warming up, found 3"


def test_across_picks_min_median_max_and_spread_of_groups() -> None:
    rows = [{"run": run, "x": str(x)} for run, x in (("1", 10), ("2", 14), ("3", 11))]
    found = {
        pick: s.across(rows, "run", pick, "single", column="x").value for pick in ("min", "median", "max", "spread")
    }
    assert found == {"min": 10, "median": 11, "max": 14, "spread": pytest.approx(4 / 11)}
    assert s.across(rows, "run", "median", "single", column="x").why_no_ci95 == "median of 3: run 1, 2, 3"


def test_across_names_a_group_without_a_value_and_needs_two_groups() -> None:
    rows = [{"run": "1", "x": "1"}, {"run": "1", "x": "2"}, {"run": "2", "x": "1"}]
    assert s.across(rows, "run", "max", "single", column="x").invalid_because == "1: expected one row, found 2"
    assert s.across(rows[2:], "run", "max", "single", column="x").invalid_because == "two groups are needed, found 1"
