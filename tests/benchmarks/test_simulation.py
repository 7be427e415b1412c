"""The simulation against closed forms of queueing theory, and against the limits of the real service."""

import math
from functools import partial
from statistics import fmean

import pytest

from bankllm.assistant import engine
from bankllm.assistant.language import language_model
from bankllm.errors import UsageError
from bankllm.loadtest.experiments.rate_sweep import knee_of, sweep
from bankllm.loadtest.load import LoadResult
from benchmarks import simulation
from benchmarks.simulation import SimulatedService, Station, offer

EXPONENTIAL = [-math.log1p(-(n + 0.5) / 20_000) for n in range(20_000)]
"""Service times: equally likely quantiles of the exponential distribution with a mean of 1 s."""
MANY = 40_000
AT_ONCE_FREE = Station(1, [0.0])


def wait_s(result: LoadResult) -> float:
    return fmean(float(row["latency_ms"]) for row in result.measured) / 1000


def refused(result: LoadResult) -> float:
    return fmean(row["fallback"] == "busy" for row in result.measured)


def erlang_b(offered: float, servers: int) -> float:
    """The share of lost requests of M/G/c/c, which depends on the mean service time only."""
    terms = [offered**k / math.factorial(k) for k in range(servers + 1)]
    return terms[-1] / sum(terms)


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_the_time_in_one_server_is_that_of_m_m_1(rate: float) -> None:
    simulated = offer(SimulatedService(Station(1, EXPONENTIAL)), rate=rate, requests=MANY, seed=2)
    assert wait_s(simulated) == pytest.approx(1 / (1 - rate), rel=0.06)


def test_the_time_in_one_server_with_equal_services_is_that_of_m_d_1() -> None:
    simulated = offer(SimulatedService(Station(1, [1.0])), rate=0.6, requests=MANY, seed=3)
    assert wait_s(simulated) == pytest.approx(1 + 0.6 / (2 * 0.4), rel=0.05)


def test_the_time_in_two_servers_is_that_of_m_m_2() -> None:
    simulated = offer(SimulatedService(Station(2, EXPONENTIAL)), rate=1.2, requests=MANY, seed=4)
    assert wait_s(simulated) == pytest.approx(1 / (1 - 0.6**2), rel=0.06)


@pytest.mark.parametrize(("rate", "servers"), [(1.0, 1), (2.0, 4), (6.0, 4)])
def test_without_room_to_wait_the_model_refuses_the_share_of_erlang_b(rate: float, servers: int) -> None:
    model = Station(servers, EXPONENTIAL)
    limits = {"deadline_s": 1e9, "customers": 10**9, "most_asked": servers}
    service = SimulatedService(AT_ONCE_FREE, model, consulted=1.0, **limits)
    assert refused(offer(service, rate=rate, requests=MANY, seed=5)) == pytest.approx(erlang_b(rate, servers), abs=0.01)


def test_one_customer_has_one_text_at_a_time() -> None:
    service = SimulatedService(AT_ONCE_FREE, Station(4, EXPONENTIAL), 1.0, deadline_s=1e9, customers=1)
    assert refused(offer(service, rate=1.0, requests=MANY, seed=6)) == pytest.approx(erlang_b(1.0, 1), abs=0.01)


def test_the_deadline_ends_texts_that_would_take_longer() -> None:
    long = SimulatedService(AT_ONCE_FREE, Station(4, [2.0]), 1.0, deadline_s=1.5, customers=10**9)
    rows = offer(long, rate=0.01, requests=200).measured
    assert {(row["served_by"], row["fallback"], row["degraded"]) for row in rows} == {("rules", "time-out", "yes")}
    assert {row["latency_ms"] for row in rows} == {1500.0}
    short = SimulatedService(AT_ONCE_FREE, Station(4, [1.4]), 1.0, deadline_s=1.5, customers=10**9)
    rows = offer(short, rate=0.01, requests=200).measured
    assert {(row["served_by"], row["fallback"], row["degraded"]) for row in rows} == {("model", "", "no")}


def test_half_of_the_chats_ask_the_model_and_the_others_are_answered_by_rules() -> None:
    service = SimulatedService(Station(2, [0.01]), Station(4, [0.1]), consulted=0.5, customers=10**9)
    rows = offer(service, rate=1, requests=4000).measured
    by_model = [row for row in rows if row["served_by"] == "model"]
    assert len(by_model) / len(rows) == pytest.approx(0.5, abs=0.03)
    assert min(float(row["latency_ms"]) for row in by_model) >= 110
    assert {row["fallback"] for row in rows} == {""}


def test_the_model_has_the_cores_that_chats_leave() -> None:
    took = []
    for rate, cores in ((0.01, 2), (50, 2), (50, 4)):
        service = SimulatedService(Station(1, [0.01]), Station(4, [0.1]), consulted=1.0, cores=cores, customers=10**9)
        by_model = (row for row in offer(service, rate=rate, requests=400).measured if row["served_by"] == "model")
        took.append(min(float(row["latency_ms"]) for row in by_model))
    assert took == pytest.approx([110, 10 + 100 / 0.75, 10 + 100 / 0.875], abs=0.5)


def test_more_chats_than_wait_are_refused_with_503() -> None:
    service = SimulatedService(Station(1, [1.0]), most_waiting=3)
    result = offer(service, rate=50, requests=100)
    assert result.errors == {"HTTP 503": 100 - 1 - 3 - int(result.measured[-1]["scheduled_s"] or 0)}


def test_batching_raises_the_knee_by_its_factor() -> None:
    alone = Station(2, [0.01])
    shared = Station(2, [0.01], busy_factor=0.5, busy_at=8)
    knees = [
        knee_of(sweep(partial(offer, SimulatedService(each)), first_rate=60, step_s=20, max_steps=14, max_s=1e9))
        for each in (alone, shared)
    ]
    assert knees[0] == pytest.approx(200, rel=0.1)
    assert knees[1] == pytest.approx(400, rel=0.1)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others() -> None:
    service = SimulatedService(Station(2, [0.01, 0.02]), Station(4, [0.3, 0.5]), consulted=0.5)
    one, same, other = (offer(service, rate=20, requests=300, warm_up=10, seed=seed).rows for seed in (1, 1, 2))
    assert one == same
    assert [row["latency_ms"] for row in one] != [row["latency_ms"] for row in other]
    assert [row["phase"] for row in one] == 10 * ["warm_up"] + 300 * ["steady"]


@pytest.mark.parametrize(
    ("servers", "times", "factor"),
    [(0, [1.0], 1.0), (1, [], 1.0), (1, [-1.0], 1.0), (1, [1.0], 0.0), (1, [1.0], math.nan)],
)
def test_bad_stations_are_refused(servers: int, times: list[float], factor: float) -> None:
    with pytest.raises(UsageError, match=r"Expected at least 1 server, service times of at least 0 s and a factor"):
        Station(servers, times, factor)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, 1e9])
def test_bad_rates_are_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="Expected a rate above 0"):
        offer(SimulatedService(AT_ONCE_FREE), rate=rate, requests=10)


def test_the_limits_are_those_of_the_service() -> None:
    assert simulation.MOST_ASKED == language_model.MAX_ASKED
    assert simulation.MOST_WAITING == engine.MAX_WAITING
