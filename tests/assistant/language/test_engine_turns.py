"""Which of the waiting requests the language model works on. Each one holds its turn until the test ends it."""

import threading
import time
from collections.abc import Iterator

import pytest

from bankllm.assistant.language.engine_turns import AT_ONCE, MAX_WAITING, Busy, Task, Turn, Turns
from tests.support.server_client import until


class Requests:
    """Requests by name, each in a thread of its own, and what became of them: `waits`, `runs`, `ended` or `busy`."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.state: dict[str, str] = {}
        self.ended: dict[str, threading.Event] = {}
        self.left: set[str] = set()
        self._threads: list[threading.Thread] = []

    def ask(self, name: str, task: Task = "understand", customer: str = "", seconds: float = 60) -> None:
        self.state[name], self.ended[name] = "waits", threading.Event()
        turn = Turn(task, customer, time.monotonic() + seconds)
        self._threads.append(threading.Thread(target=self._hold, args=(name, turn)))
        self._threads[-1].start()

    def _hold(self, name: str, turn: Turn) -> None:
        try:
            with self.turns.take(turn, lambda: name in self.left):
                self.state[name] = "runs"
                assert self.ended[name].wait(60)
            self.state[name] = "ended"
        except Busy:
            self.state[name] = "busy"

    def end(self, name: str) -> None:
        self.ended[name].set()
        until(lambda: self.state[name] == "ended")

    def becomes(self, state: str, *names: str) -> None:
        until(lambda: {name for name, each in self.state.items() if each == state} == set(names))

    def close(self) -> None:
        for event in self.ended.values():
            event.set()
        for thread in self._threads:
            thread.join(60)


@pytest.fixture
def requests() -> Iterator[Requests]:
    made = Requests()
    yield made
    made.close()


def test_understanding_goes_first_and_each_customer_has_one_request(requests: Requests) -> None:
    running = [f"r{number}" for number in range(AT_ONCE)]
    for name in running:
        requests.ask(name, customer=name)
    requests.becomes("runs", *running)
    requests.ask("word", "word", "c1")
    requests.ask("same customer", customer="r1")
    requests.ask("understand", customer="c2")
    requests.becomes("waits", "word", "same customer", "understand")
    requests.ask("again", customer="c2")
    requests.becomes("busy", "again")
    requests.end("r0")
    requests.becomes("runs", "r1", "r2", "r3", "understand")
    requests.end("r2")
    requests.becomes("runs", "r1", "r3", "understand", "word")
    requests.end("r1")
    requests.becomes("runs", "r3", "understand", "word", "same customer")


def test_the_queue_is_bounded_and_a_client_that_leaves_leaves_it(requests: Requests) -> None:
    names = [f"n{number}" for number in range(AT_ONCE + MAX_WAITING)]
    for name in names[:AT_ONCE]:
        requests.ask(name)
    requests.becomes("runs", *names[:AT_ONCE])
    for name in names[AT_ONCE:]:
        requests.ask(name)
    requests.becomes("waits", *names[AT_ONCE:])
    requests.ask("one more")
    requests.becomes("busy", "one more")
    requests.left.add(names[-1])
    requests.becomes("busy", "one more", names[-1])
    requests.ask("now there is room")
    requests.becomes("waits", *names[AT_ONCE:-1], "now there is room")


def test_what_would_be_late_is_refused_at_once_unless_nothing_runs(requests: Requests) -> None:
    requests.ask("first", seconds=0)
    requests.becomes("runs", "first")
    requests.ask("before anything was measured")
    requests.becomes("runs", "first", "before anything was measured")
    requests.ended["first"].wait(0.1)  # the duration that is measured
    requests.end("first")
    requests.ask("late", seconds=0.05)
    requests.becomes("busy", "late")
    requests.ask("in time")
    requests.becomes("runs", "before anything was measured", "in time")
