"""The input and output of every load driver: a `Load` goes in, a `LoadResult` with one row per request comes out.

The rows of all drivers have the same `COLUMNS`, so the same statistics apply to each of them. A driver is a
`LoadDriver` in the registry `LOAD_DRIVERS`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple, cast, get_args
from urllib.parse import urlsplit

from bankllm.errors import UsageError
from bankllm.evidence.statistics.samples import percentile
from bankllm.evidence.statistics.statistic import Estimate, Rows
from bankllm.loadtest.reply_outcomes import LedgerQuestion
from bankllm.util.processes import is_loopback
from bankllm.util.registry import Registry

Value = str | int | float
RequestRow = dict[str, Value]
RequestKind = Literal["chat", "stream", "health"]
Mix = Literal["chat", "stream", "health", "mix"]
Arrivals = Literal["poisson", "constant"]
PATHS: dict[RequestKind, str] = {"chat": "/api/v1/chat", "stream": "/api/v1/chat/stream", "health": "/health"}
HEALTH_SHARE: dict[Mix, float] = {"chat": 0.0, "stream": 0.0, "health": 1.0, "mix": 1 / 3}
"""Share of health checks in each mix. `mix` has one health check per two chats, in random order, as in the original
plan that `evidence/report/roadmap.py` quotes."""
QUESTION_SHARE = 0.6
"""Share of the questions with a known answer among the chats of a load that has such questions."""
MAX_RATE = 20_000
"""Requests per second; far above the rate that one generator reaches on any machine."""

COLUMNS = {
    "driver": "name of the load driver",
    "kind": "chat, stream (a chat whose reply is streamed) or health",
    "phase": "warm_up, opening (first request of a closed-loop user, unless it is in the warm-up) or steady; empty if "
    "the driver does not report it",
    "scheduled_s": "open loop: time at which the request was due; empty in a closed loop, which has no schedule",
    "sent_s": "time at which the driver started the request, before connecting. Every column in s counts from the "
    "start of the load, on one clock",
    "first_byte_s": "time at which the reply's headers were complete; empty if the driver does not report it",
    "done_s": "time of the reply's last byte, or of the failure",
    "latency_ms": "time that a user waits: from scheduled_s (open loop) or sent_s (closed loop) to done_s",
    "ttft_ms": "stream: time from the same start until the first word that carries content is complete",
    "service_ms": "time from sent_s to done_s; leaves out the wait before sending, as many load tools do",
    "status": "HTTP status, 0 without a reply; 2xx from ab if all replies had a status 2xx",
    "bytes": "length of the reply's body; empty if the driver does not report it",
    "error": "empty on success, else the HTTP status (such as HTTP 503) or the name of the failure",
    "tokens": "stream: number of pieces in which the reply came",
    "served_by": "model if a language model understood the message or worded the reply, else rules",
    "fallback": "why rules or the template took the place of the language model; empty if they did not",
    "degraded": "yes if the reason was that the language model had no time for the chat, else no",
    "asked": "question if the right answer was known before, text for another message, empty for a health check",
    "answer": "of a question: right, wrong, asked back, handed over, or none (no reply)",
}
"""The columns of the per-request table, in order, and their meaning."""


def row(
    sent_s: float, done_s: float, scheduled_s: Value = "", first_token_s: Value = "", **values: Value
) -> RequestRow:
    """Return a row of the table. The latencies follow from the times, and columns without a value are empty.

    Times are rounded to 1 µs, which halves the size of the raw files. Raises `KeyError` for an unknown column.
    """
    waited_from = sent_s if scheduled_s == "" else float(scheduled_s)
    filled: RequestRow = dict.fromkeys(COLUMNS, "")
    filled |= {"scheduled_s": scheduled_s, "sent_s": sent_s, "done_s": done_s}
    filled |= {"latency_ms": 1000 * (done_s - waited_from), "service_ms": 1000 * (done_s - sent_s), **values}
    if first_token_s != "":
        filled["ttft_ms"] = 1000 * (float(first_token_s) - waited_from)
    if unknown := filled.keys() - COLUMNS.keys():
        raise KeyError(f"unknown columns {sorted(unknown)}; expected some of {list(COLUMNS)}")
    decimals = {name: 3 if name.endswith("_ms") else 6 for name in filled}
    return {name: round(value, decimals[name]) if isinstance(value, float) else value for name, value in filled.items()}


def piece_rows(request: int, sent_s: float, times: Sequence[float], served_by: str = "") -> list[RequestRow]:
    """Return one row per piece of a reply that was sent at `sent_s` and came at `times`.

    The columns are `request`, `served_by` (as in the load's table), `place` (`first` or `later`), `at_s`,
    `since_sent_ms`, and `gap_ms` since the piece before, empty for the first one.
    """
    return [
        {
            "request": request,
            "served_by": served_by,
            "place": "later" if place else "first",
            "at_s": round(at_s, 6),
            "since_sent_ms": round(1000 * (at_s - sent_s), 3),
            "gap_ms": round(1000 * (at_s - times[place - 1]), 3) if place else "",
        }
        for place, at_s in enumerate(times)
    ]


class Call(NamedTuple):
    """A request of a load."""

    kind: RequestKind
    body: Mapping[str, str] = {}
    """The JSON body; empty for a health check."""
    question: LedgerQuestion | None = None
    """The question in the body, if its answer is known."""


@dataclass(frozen=True)
class LoadDriver:
    """A way to send a load, registered by its name in `LOAD_DRIVERS`."""

    run: "Callable[[Load, Path], LoadResult]"
    """Sends the load and returns its rows; the folder receives the files of the load tool."""
    loop: Literal["closed", "open"]
    """closed: `Load.users` users, who each wait for their reply. open: `Load.rate` requests become due per second."""
    mixes: tuple[Mix, ...]
    """The mixes that it can send, the default first."""
    program: str = ""
    """The program that must be installed, if any."""
    install: str = ""
    """How to install the program."""
    most_users: float = math.inf
    """Closed loop: the largest number of users."""


LOAD_DRIVERS: Registry[LoadDriver] = Registry("load driver", "bankllm.load_drivers", "bankllm.loadtest.drivers")


@dataclass(frozen=True)
class Load:
    """The requests to send to a server, and how. Raises `UsageError` for the first argument that is invalid."""

    url: str
    driver: str
    messages: Sequence[str]
    customers: Sequence[str]
    kind: Mix | None = None
    """Which requests are sent; None for the default of the driver."""
    questions: Sequence[LedgerQuestion] = ()
    """Questions with a known answer. If there are any, they are `QUESTION_SHARE` of the chats."""
    users: int = 100
    """Closed loop: concurrent users."""
    requests: int = 1000
    """Number of measured requests, which follow the warm-up requests."""
    wait_s: tuple[float, float] = (1, 3)
    """Shortest and longest pause of a user between two requests, in s, for drivers whose users pause."""
    timeout_s: float = 30
    """Timeout per request, in s."""
    seed: int = 0
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Customer id → bearer token; empty for a server without authentication."""
    warm_up: int = 0
    """Number of requests before the measured ones; there is no pause between the two."""
    rate: float | None = None
    """Open loop: offered rate in requests per second."""
    arrivals: Arrivals = "poisson"
    """Open loop: distribution of the times between requests."""
    allow_remote: bool = False
    """Whether the server may run on another machine."""

    def __post_init__(self) -> None:
        _check(self, LOAD_DRIVERS.get(self.driver))

    @property
    def mix(self) -> Mix:
        return self.kind or LOAD_DRIVERS.get(self.driver).mixes[0]

    @property
    def total(self) -> int:
        """Number of requests, with the warm-up."""
        return self.warm_up + self.requests

    def max_duration_s(self) -> float:
        """Upper bound of a closed loop's duration in s: every request times out, plus 60 s for the start."""
        return 60 + (self.total / self.users + 1) * (self.timeout_s + self.wait_s[1])

    def calls(self) -> Iterator[Call]:
        """Yield random requests: a question of its customer, a text of any customer, or a health check. Never ends."""
        draw = Random(f"{self.seed} calls")
        kind: RequestKind = "stream" if self.mix == "stream" else "chat"
        while True:
            if draw.random() < HEALTH_SHARE[self.mix]:
                yield Call("health")
            elif self.questions and draw.random() < QUESTION_SHARE:
                asked = draw.choice(self.questions)
                yield Call(kind, {"message": asked.text, "customer_id": asked.customer_id}, asked)
            else:
                customer = draw.choice(self.customers)
                yield Call(kind, {"message": draw.choice(self.messages), "customer_id": customer})


@dataclass
class LoadResult:
    load: Load
    rows: list[RequestRow]
    """All rows. Rows of the warm-up have the phase `warm_up` and enter no result."""
    pieces: list[RequestRow] = field(default_factory=list)
    """The pieces of the measured streams, with the columns of `piece_rows`."""
    limits: tuple[str, ...] = ()
    """What the driver cannot measure or do."""
    generator_cpu_share: float | None = None
    """CPU time of the load generator divided by wall time, as a share of one core. None if it is not known."""
    invalid_because: str | None = None
    """Why the results must not be used; None if they may be."""
    interrupted: bool = False
    """True if Ctrl-C ended the load."""
    errors: dict[str, int] = field(default_factory=dict)
    """Kind of failure → number of measured requests that failed. By default from the rows."""
    seconds: float = 0.0
    """From the first measured request to the last reply. By default from the rows."""

    def __post_init__(self) -> None:
        self.errors = self.errors or dict(Counter(str(each["error"]) for each in self.measured if each["error"]))
        if self.measured and not self.seconds:
            first = min(float(each["sent_s" if each["scheduled_s"] == "" else "scheduled_s"]) for each in self.measured)
            self.seconds = max(float(each["done_s"]) for each in self.measured) - first

    @property
    def measured(self) -> list[RequestRow]:
        """The rows without the warm-up."""
        return [each for each in self.rows if each["phase"] != "warm_up"]

    def chats(self) -> list[RequestRow]:
        """The chats among the measured rows."""
        return [each for each in self.measured if each["kind"] != "health"]

    def summary(self) -> dict[str, Value]:
        requests, is_open = len(self.measured), self.load.rate is not None
        return {
            "driver": self.load.driver,
            "mix": self.load.mix,
            "users": 0 if is_open else self.load.users,
            "rate": self.load.rate if self.load.rate is not None else "",
            "arrivals": self.load.arrivals if is_open else "",
            "requests": requests,
            "warm_up": len(self.rows) - requests,
            "failed": sum(self.errors.values()),
            "seconds": self.seconds,
            "requests_per_s": requests / self.seconds if self.seconds else 0.0,
            "generator_cpu_share": "" if self.generator_cpu_share is None else self.generator_cpu_share,
            "invalid_because": self.invalid_because or "",
        }


def estimate(rows: Sequence[RequestRow], q: float, column: str = "latency_ms") -> Estimate:
    """Return a percentile of a column in ms, by the statistic that `bankllm verify` applies to the file of rows."""
    return percentile(cast(Rows, rows), column, q)


def _check(load: Load, driver: LoadDriver) -> None:
    parts = urlsplit(load.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{load.url!r} is not an HTTP address. Expected something like http://127.0.0.1:8000.")
    if not load.allow_remote and not is_loopback(parts.hostname):
        raise UsageError(
            f"{parts.hostname} is not this machine. Expected a loopback address. If the host is yours, use "
            "--i-own-this-host (in Python allow_remote=True)."
        )
    if load.mix not in driver.mixes:
        can_mix = [name for name in LOAD_DRIVERS if load.mix in LOAD_DRIVERS.get(name).mixes]
        raise UsageError(
            f"{load.driver} cannot send the kind of load {load.mix!r}. Expected one of the kinds "
            f"{', '.join(driver.mixes)}. Drivers that can send it: {', '.join(can_mix) or 'none'}."
        )
    is_open, most = driver.loop == "open", min(load.requests, driver.most_users)
    rate = f"a rate above 0 and up to {MAX_RATE:,} requests per second for an open loop (--rate, in Python rate)"
    no_rate = f"no rate for {load.driver}, whose loop is closed (or the driver open-loop)"
    arrivals = get_args(Arrivals)
    expected: list[tuple[bool, str, Any]] = [
        (load.requests >= 1, "requests of at least 1", load.requests),
        (is_open or load.rate is None, no_rate, load.rate),
        (not is_open or 0 < (load.rate or 0) <= MAX_RATE, rate, load.rate),
        (not is_open or load.arrivals in arrivals, f"arrivals of {' or '.join(arrivals)}", load.arrivals),
        (is_open or 1 <= load.users <= most, f"1 to {most:g} users (each sends at least 1 request)", load.users),
        (load.warm_up >= 0, "warm_up of at least 0", load.warm_up),
        (len(load.messages) >= 1, "at least 1 message", len(load.messages)),
        (len(load.customers) >= 1, "at least 1 customer", len(load.customers)),
        (0 <= load.wait_s[0] <= load.wait_s[1], "wait_s as (shortest, longest) in seconds", load.wait_s),
        (0 < load.timeout_s < math.inf, "a timeout above 0 s (--timeout, in Python timeout_s)", load.timeout_s),
    ]
    for holds, what, found in expected:
        if not holds:
            raise UsageError(f"Expected {what}; found {found}.")
