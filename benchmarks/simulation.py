"""Predict how a server behaves at an offered rate, from measured service times (`capacity.py`).

Chats arrive as a Poisson process at a first-in, first-out queue with one server per worker: a worker is one Python
process, whose interpreter works on one chat at a time. Those that ask the language model then go through the admission
of the service: one text a customer, `AT_ONCE` texts that are generated, a few that wait, and a deadline from the
arrival. Times are those of requests that were sent alone, multiplied by a factor that changes with the number of
requests present, because chats share passes and texts share cores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from itertools import islice
from random import Random
from statistics import fmean

from bankllm.assistant.language.engine_turns import SMOOTHING
from bankllm.errors import UsageError
from bankllm.loadtest.drivers.open_loop import due_times
from bankllm.loadtest.load import Load, LoadResult, RequestRow, row

MOST_ASKED, MOST_WAITING = 6, 256
"""As in `assistant.language_model` (messages that are read) and `assistant.engine` (chats that wait for a pass)."""


@dataclass(frozen=True)
class Station:
    """Servers that work on one request each."""

    servers: int
    times_s: Sequence[float]
    """Service times of single requests, from which is drawn."""
    busy_factor: float = 1.0
    """Factor of the service times with `busy_at` requests or more; it grows from 1 in proportion to their number."""
    busy_at: float = 1.0

    def __post_init__(self) -> None:
        if self.servers < 1 or not self.times_s or min(self.times_s) < 0 or not self.busy_factor > 0:
            raise UsageError(
                "Expected at least 1 server, service times of at least 0 s and a factor above 0; found "
                f"{self.servers} servers, {len(self.times_s)} times and the factor {self.busy_factor:g}."
            )

    def draw_s(self, draw: Random, present: int) -> float:
        share = min(1.0, (present - 1) / (self.busy_at - 1)) if self.busy_at > 1 else 1.0
        return draw.choice(self.times_s) * (1 + share * (self.busy_factor - 1))


@dataclass(frozen=True)
class SimulatedService:
    chat: Station
    model: Station | None = None
    consulted: float = 0.0
    """Share of the chats that ask the language model."""
    cores: int = 1
    """Of the machine: chats take their service time of these, and the language model has the rest."""
    deadline_s: float = 1.5
    customers: int = 10
    most_asked: int = MOST_ASKED
    most_waiting: float = MOST_WAITING


def offer(service: SimulatedService, *, rate: float, requests: int, warm_up: int = 0, seed: int = 0) -> LoadResult:
    """Simulate a load, with the arguments and the result of an open-loop load of `run_load`."""
    load = Load("http://127.0.0.1", "open-loop", ["-"], ["-"], requests=requests, warm_up=warm_up, rate=rate, seed=seed)
    draw, due = Random(f"{seed} service"), list(islice(due_times(rate, "poisson", seed), load.total))
    ready = list(_pass_chats(service, due, draw))
    spared = max(0.05, 1 - rate * fmean(service.chat.times_s) * service.chat.busy_factor / service.cores)
    replies = _ask_model(service, due, ready, spared, draw)
    rows: list[RequestRow] = []
    for number, (at, done) in enumerate(zip(due, ready, strict=True)):
        ended, fallback = replies.get(number, (done, None))
        about = {"served_by": "model" if fallback == "" else "rules", "degraded": "yes" if fallback else "no"}
        about |= {"fallback": fallback or "", "asked": "text", "error": "HTTP 503" if done is None else ""}
        about |= {"kind": "chat", "phase": "warm_up" if number < warm_up else "steady"}
        rows.append(row(at, at if ended is None else ended, at, **about))
    return LoadResult(load, rows)


def _pass_chats(service: SimulatedService, due: Sequence[float], draw: Random) -> Iterator[float | None]:
    """Yield when each chat is read and answered by rules; None if it is refused."""
    free, ends = [0.0] * service.chat.servers, list[float]()
    for at in due:
        while ends and ends[0] <= at:
            heappop(ends)
        if len(ends) >= service.most_waiting + service.chat.servers:
            yield None
            continue
        end = max(at, free[0]) + service.chat.draw_s(draw, len(ends) + 1)
        heapreplace(free, end)
        heappush(ends, end)
        yield end


def _ask_model(
    service: SimulatedService, due: Sequence[float], ready: Sequence[float | None], spared: float, draw: Random
) -> dict[int, tuple[float, str]]:
    """Return number → end and fallback (empty for none) of the chats that ask the model.

    `spared` is the share of the cores that chats leave to the model, whose threads have a lower priority.
    """
    replies: dict[int, tuple[float, str]] = {}
    present, mean_s = list[tuple[float, int]](), 0.0
    asking = [(at, number) for number, at in enumerate(ready) if at is not None and draw.random() < service.consulted]
    for at, number in sorted(asking) if service.model else ():
        assert service.model is not None
        customer, deadline = draw.randrange(service.customers), due[number] + service.deadline_s
        present = sorted(each for each in present if each[0] > at)
        before = present[len(present) - service.model.servers][0] if len(present) >= service.model.servers else at
        late = at >= deadline or (present and before + mean_s > deadline)
        if late or len(present) >= service.most_asked or any(customer == other for _, other in present):
            replies[number] = (at, "busy")
            continue
        took = service.model.draw_s(draw, min(len(present) + 1, service.model.servers)) / spared
        end, complete = min(before + took, deadline), before + took <= deadline
        if complete or end - before > mean_s:
            mean_s = mean_s + SMOOTHING * (end - before - mean_s) if mean_s else end - before
        present.append((end, customer))
        replies[number] = (end, "" if complete else "time-out")
    return replies
