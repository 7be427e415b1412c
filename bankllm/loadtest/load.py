"""The input and output of every load driver: a `Load` goes in, a `DriverResult` with one row per request comes out.

The rows of all drivers have the same `COLUMNS`, so the same statistics apply to each of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Value = str | int | float
RequestRow = dict[str, Value]
Driver = Literal["ab", "locust", "open-loop"]
RequestKind = Literal["chat", "health"]
Mix = Literal["chat", "health", "mix"]
Arrivals = Literal["poisson", "constant"]
PATHS: dict[RequestKind, str] = {"chat": "/api/v1/chat", "health": "/health"}
HEALTH_SHARE: dict[Mix, float] = {"chat": 0.0, "health": 1.0, "mix": 1 / 3}
"""Share of health checks in each mix. `mix` has one health check per two chats, in random order, as in the original
plan that `evidence/report/roadmap.py` quotes."""

COLUMNS = {
    "driver": "ab, locust or open-loop",
    "worker": "index of the driver's process, from 0",
    "kind": "chat or health",
    "phase": "warm_up, opening (first request of a closed-loop user, unless it is in the warm-up) or steady; empty if "
    "the driver does not report it",
    "scheduled_s": "open loop: time at which the request was due; empty in a closed loop, which has no schedule",
    "sent_s": "time at which the driver started the request, before connecting. Every column in s counts from the "
    "start of the load, on one clock",
    "first_byte_s": "time at which the reply's headers were complete; empty if the driver does not report it",
    "done_s": "time of the reply's last byte, or of the failure",
    "latency_ms": "time that a user waits: from scheduled_s (open loop) or sent_s (closed loop) to done_s",
    "service_ms": "time from sent_s to done_s; leaves out the wait before sending, as many load tools do",
    "status": "HTTP status, 0 without a reply; 2xx from ab if all replies had a status 2xx",
    "bytes": "length of the reply's body; empty if the driver does not report it",
    "error": "empty on success, else the HTTP status (such as HTTP 503) or the name of the failure",
}
"""The columns of the per-request table, in order, and their meaning."""


def row(*values: Value) -> RequestRow:
    """Return a row of the table from values in the order of `COLUMNS`. Raises `ValueError` for a wrong number."""
    return dict(zip(COLUMNS, values, strict=True))


@dataclass(frozen=True)
class Load:
    """The requests to send to a server, and how. `validation.plan` makes and checks it."""

    url: str
    messages: Sequence[str]
    customers: Sequence[str]
    mix: Mix
    users: int = 100
    """Concurrent users of a closed loop; 0 in an open loop."""
    requests: int = 1000
    """Number of measured requests, which follow the warm-up requests."""
    wait_s: tuple[float, float] = (1, 3)
    """Shortest and longest pause of a Locust user between two requests, in s."""
    timeout_s: float = 30
    """Timeout per request, in s."""
    seed: int = 0
    token: str | Mapping[str, str] | None = field(default=None, repr=False)
    """One bearer token for all customers, or one per customer id."""
    warm_up: int = 0
    """Number of requests before the measured ones; there is no pause between the two."""
    rate: float | None = None
    """Open loop: offered rate in requests per second; None in a closed loop."""
    arrivals: Arrivals = "poisson"
    """Open loop: distribution of the times between requests."""

    def max_duration_s(self) -> float:
        """Upper bound of the load's duration in s: every request times out, plus 60 s for the start."""
        total = self.warm_up + self.requests
        if self.rate is not None:
            return 60 + 2 * total / self.rate + self.timeout_s
        return 60 + (total / self.users + 1) * (self.timeout_s + self.wait_s[1])

    def tokens(self) -> dict[str, str]:
        """Customer id → bearer token; empty for a server without authentication."""
        if isinstance(self.token, str):
            return dict.fromkeys(self.customers, self.token)
        return dict(self.token or {})

    def plan(self) -> dict[str, Any]:
        """Return the load as JSON-serialisable settings for a generator process, without the tokens.

        Tokens are passed in the environment, so that no file contains them.
        """
        return {
            "url": self.url,
            "requests": self.requests,
            "warm_up": self.warm_up,
            "rate": self.rate,
            "arrivals": self.arrivals,
            "health_share": HEALTH_SHARE[self.mix],
            "messages": list(self.messages),
            "customers": list(self.customers),
            "wait_s": list(self.wait_s),
            "timeout_s": self.timeout_s,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class DriverResult:
    """What a driver measured."""

    rows: list[RequestRow]
    errors: dict[str, int]
    """Kind of failure → number of measured requests."""
    seconds: float
    """From the first measured request to the last reply to one."""
    generator_cpu_share: float | None
    """CPU time of the load generator divided by wall time, as a share of one core. None if the load was cut short."""
    limits: tuple[str, ...]
    """What the driver cannot measure or do."""
    invalid_because: str | None = None
    """Why the results must not be used; None if they may be."""
    interrupted: bool = False
    """True if Ctrl-C ended the load."""


def measured(rows: Sequence[RequestRow]) -> list[RequestRow]:
    """Return the rows that results are computed from: all except the warm-up."""
    return [each for each in rows if each["phase"] != "warm_up"]


def errors_of(rows: Sequence[RequestRow]) -> dict[str, int]:
    """Return kind of failure → number of measured requests that failed."""
    return dict(Counter(str(each["error"]) for each in measured(rows) if each["error"]))


def span_s(rows: Sequence[RequestRow]) -> float:
    """Return the seconds from the first measured request to the last reply; 0 without measured requests.

    A request starts when it is due (open loop) or sent (closed loop).
    """
    kept = measured(rows)
    if not kept:
        return 0.0
    began = min(float(each["sent_s"] if each["scheduled_s"] == "" else each["scheduled_s"]) for each in kept)
    return max(float(each["done_s"]) for each in kept) - began
