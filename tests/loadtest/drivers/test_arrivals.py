"""Due times of the open loop, and the timer that fires at them."""

import asyncio
import itertools
import time
from statistics import fmean, stdev

import pytest

from bankllm.loadtest.drivers.arrivals import Timer, due_times
from bankllm.loadtest.load import Arrivals


def gaps(arrivals: Arrivals, seed: int = 3) -> list[float]:
    due = list(itertools.islice(due_times(50, arrivals, seed), 20_001))
    assert due[0] == 0
    return [later - earlier for earlier, later in itertools.pairwise(due)]


def test_constant_arrivals_have_equal_gaps() -> None:
    assert all(gap == pytest.approx(0.02) for gap in gaps("constant"))


def test_poisson_arrivals_have_exponential_gaps_of_the_same_mean() -> None:
    drawn = gaps("poisson")
    # Mean and standard deviation of an exponential distribution are equal; five standard errors of 20,000 draws.
    assert fmean(drawn) == pytest.approx(0.02, rel=0.036)
    assert stdev(drawn) == pytest.approx(0.02, rel=0.06)
    assert sum(gap > 0.02 for gap in drawn) / len(drawn) == pytest.approx(0.3679, abs=0.017)
    assert gaps("poisson") == drawn
    assert gaps("poisson", seed=4) != drawn


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_the_timer_fires_once_and_not_early(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bankllm.loadtest.drivers.arrivals.sys.platform", platform)

    async def fire_times() -> list[float]:
        fired: list[float] = []
        timer = Timer(asyncio.get_running_loop(), lambda: fired.append(time.monotonic()))
        timer.set(time.monotonic() - 1)
        await asyncio.sleep(0.05)
        when = time.monotonic() + 0.05
        timer.set(when)
        await asyncio.sleep(0.2)
        timer.close()
        return [fired[0] - when, *(time_fired - when for time_fired in fired[1:])]

    past, *future = asyncio.run(fire_times())
    assert past < 0
    assert len(future) == 1
    assert -0.001 < future[0] < 0.2
