"""When the breaker lets callers through, when it does not, and who may try first."""

from bankllm.util.circuit_breaker import Breaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_rests_after_failures_in_a_row_alone() -> None:
    breaker = Breaker(failures=2, rest_s=5, clock=Clock())
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()


def test_after_the_rest_one_caller_tries_for_all() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest_s=5, clock=clock)
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


def test_a_try_that_tells_nothing_leaves_the_next_one_to_another() -> None:
    clock = Clock()
    breaker = Breaker(failures=1, rest_s=5, clock=clock)
    breaker.failed()
    clock.now = 5.0
    assert breaker.allows()
    breaker.abandoned()
    assert [breaker.allows(), breaker.allows()] == [True, False]
