"""Throughput, goodput and knee, compared with cases computed by hand."""

from typing import Any

import pytest

from bankllm.evidence.statistics import rates as s
from tests.support.text_rows import text_rows

SERVED: dict[str, Any] = {"start": "due", "end": "done", "latency": "ms", "error": "error", "objective_ms": 500}


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


def test_throughput_counts_from_first_start_to_last_end() -> None:
    assert s.throughput(text_rows(t0=[1.0, 1.5, 2.0], t1=[2.0, 2.0, 4.0]), "t0", "t1").value == pytest.approx(1.0)
    assert s.throughput(text_rows(t0=[1.0], t1=[1.0]), "t0", "t1").invalid_because == "the rows span no time"


def test_rate_is_total_amount_over_total_time() -> None:
    assert s.rate(text_rows(done=[1000, 500], seconds=[2.0, 3.0]), "done", "seconds").value == 300
    assert s.rate(text_rows(done=[1], seconds=[0.0]), "done", "seconds").invalid_because == "the rows took no time"


def test_goodput_excludes_failed_and_late_requests() -> None:
    rows = step(100, slow=10, failed=4)  # the failed requests are also slow
    estimate = s.goodput(rows, **SERVED)
    assert estimate.value == pytest.approx(190 / (199 / 100 + 0.02))
    assert estimate.n == 200
    assert s.goodput([rows[0] | {"done": rows[0]["due"]}], **SERVED).invalid_because == "the rows span no time"


def test_the_knee_is_the_last_rate_before_the_first_that_is_too_high() -> None:
    rows = step(50) + step(10) + step(20) + step(40, slow=11)  # p95 of 200 is the 190th value: 11 slow ones reach it
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


@pytest.mark.parametrize(
    ("rows", "value", "because"),
    [
        (step(10) + step(20), 20, "no rate was too much: the knee lies higher"),
        (step(10, failed=1) + step(20), None, "10/s, the lowest rate, was already too much"),
        (step(10) + step(20)[:100], None, "at 20/s p95 needs 130 samples, there are 100"),
    ],
)
def test_a_knee_outside_the_sweep_is_invalid_with_a_reason(
    rows: list[dict[str, str]], value: float | None, because: str
) -> None:
    estimate = s.knee(rows, "offered", **SERVED)
    assert (estimate.value, estimate.invalid_because) == (value, because)


def test_goodput_may_have_an_objective_for_the_first_token() -> None:
    rows = [row | {"first": str(100 * number)} for number, row in enumerate(step(10)[:20])]
    both = SERVED | {"first": "first", "first_objective_ms": 1000}
    assert s.goodput(rows, **both).value == pytest.approx(11 / 1.92)
    rows[0] |= {"error": "TimeoutError", "first": ""}
    assert s.goodput(rows, **both).value == pytest.approx(10 / 1.92)


def test_a_knee_by_share_is_the_last_rate_before_too_few_rows_have_the_value() -> None:
    rows = [
        {"offered": str(rate), "by": "a" if n < hits else "b"}
        for rate, hits in ((2, 9), (16, 5), (4, 10), (32, 10))
        for n in range(10)
    ]
    arguments = {"offered": "offered", "column": "by", "equals": "a"}
    found = s.share_knee(rows, **arguments, least_share=0.9)
    assert (found.value, found.why_no_ci95) == (4, "one sweep: 16/s was too much, with a share of 50%, none between")
    assert s.share_knee(rows, **arguments, least_share=0.95).invalid_because == (
        "the lowest rate, 2/s was too much, with a share of 90%"
    )
    everywhere = s.share_knee(rows, **arguments, least_share=0.5)
    assert (everywhere.value, everywhere.invalid_because) == (32, "no rate was too much: the knee lies higher")


def test_the_cost_of_work_is_that_of_its_chunks_together() -> None:
    chunks = text_rows(before=[1.0, 2.0, 5.0], after=[2.0, 5.0, 7.0], chats=[100, 200, 300])
    found = s.consumption(chunks, "before", "after", "chats")
    assert (found.value, found.n) == (pytest.approx(10), 3)
    # Residuals 0, 1 and -1 around 10 s per 1,000 chats: 4.303 × √(3/2 × 2) / 600 × 1,000.
    assert found.ci95 == (0.0, pytest.approx(10 + 4.3027 * 3**0.5 / 0.6, rel=1e-4))
    paid = s.price(chunks, "before", "after", "chats", price_per_hour=0.72, cores=2)
    assert paid.value == pytest.approx(0.01 * 1e6 / 3600 * 0.36)
    assert s.consumption(chunks[:2], "before", "after", "chats").why_no_ci95 == "fewer than 3 chunks"
    assert s.consumption(text_rows(a=[1], b=[2], n=[0]), "a", "b", "n").invalid_because == "no n"
