"""The circuit breaker: when it opens, when it allows a trial call, and when it closes."""

from bankllm.util.circuit_breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_consecutive_failures_open_the_breaker() -> None:
    breaker = Breaker(failures=2, cooldown_s=5, clock=Clock())
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()


def test_one_trial_call_is_allowed_after_the_cooldown() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, cooldown_s=5, clock=clock)
    breaker.failed()
    clock.now = 4.9
    assert not breaker.allows()
    clock.now = 5.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.failed()
    clock.now = 9.9
    assert not breaker.allows()
    clock.now = 10.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.succeeded()
    assert [breaker.allows(), breaker.allows()] == [True, True]


def test_an_abandoned_trial_call_allows_another_one() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, cooldown_s=5, clock=clock)
    breaker.failed()
    clock.now = 5.0
    assert breaker.allows()
    breaker.abandoned()
    assert [breaker.allows(), breaker.allows()] == [True, False]
