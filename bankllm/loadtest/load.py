"""What a load asks for and what came of it: every driver takes a `Load` and gives a `DriverResult`, one row a request.

The rows of all drivers share `COLUMNS`, so that one statistic reads them all.
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
"""Of each mix; `mix` is the roadmap's: one health check to two chats, in random order."""

COLUMNS = {
    "driver": "ab, locust or open-loop",
    "worker": "which of the driver's processes, from 0",
    "kind": "chat or health",
    "phase": "warm_up, opening (a closed-loop user's first request after no warm-up) or steady; empty: not told",
    "scheduled_s": "open loop: when the request was due; empty in a closed loop, where nothing is ever due",
    "sent_s": "when it was taken up, connecting included, in seconds on one clock since the load began, as is every "
    "column in s",
    "first_byte_s": "when the reply's head was there; empty where the driver cannot tell",
    "done_s": "when the reply's last byte was there, or the failure",
    "latency_ms": "what a user waited: from due (open loop) or sent (closed loop) to done",
    "service_ms": "from sent to done: what a tool shows that does not count the wait before sending",
    "status": "HTTP status, 0 where no reply came; 2xx where ab saw nothing else",
    "bytes": "length of the body; empty where the driver cannot tell",
    "error": "empty if all went well, else HTTP 503 or the failure's name",
}
"""The columns of the per-request table, in order, and what they hold."""


def row(*values: Value) -> RequestRow:
    """A row of the table, its values in the order of `COLUMNS`."""
    return dict(zip(COLUMNS, values, strict=True))


@dataclass(frozen=True)
class Load:
    """What to ask of the server. `wait_s` bounds the pause of a Locust user between requests, in seconds."""

    url: str
    messages: Sequence[str]
    customers: Sequence[str]
    mix: Mix
    users: int = 100
    """0 in an open loop."""
    requests: int = 1000
    """Measured ones; those of the warm-up come before them."""
    wait_s: tuple[float, float] = (1, 3)
    timeout_s: float = 30
    seed: int = 0
    token: str | Mapping[str, str] | None = field(default=None, repr=False)
    """One for all, or one for each customer."""
    warm_up: int = 0
    """Requests sent before the measured ones, handed over without a pause."""
    rate: float | None = None
    """Open loop: requests a second that become due."""
    arrivals: Arrivals = "poisson"

    def longest_s(self) -> float:
        """When even a server that lets every request time out would be through, with a minute for the start."""
        everything = self.warm_up + self.requests
        if self.rate is not None:
            return 60 + 2 * everything / self.rate + self.timeout_s
        return 60 + (everything / self.users + 1) * (self.timeout_s + self.wait_s[1])

    def tokens(self) -> dict[str, str]:
        """The token of each customer; none where the server asks for none."""
        if isinstance(self.token, str):
            return dict.fromkeys(self.customers, self.token)
        return dict(self.token or {})

    def plan(self) -> dict[str, Any]:
        """What a generator in another process must know, as JSON takes it; tokens go another way."""
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
    """What a driver saw. `generator_cpu_share` is of one core, over the load alone; None where it was cut short."""

    rows: list[RequestRow]
    errors: dict[str, int]
    """Of the measured requests, by kind."""
    seconds: float
    """From the first measured request to the last reply to one."""
    generator_cpu_share: float | None
    limits: tuple[str, ...]
    invalid_because: str | None = None
    interrupted: bool = False
    """By Ctrl-C."""


def measured(rows: Sequence[RequestRow]) -> list[RequestRow]:
    """The rows that figures are made of: all but the warm-up's."""
    return [each for each in rows if each["phase"] != "warm_up"]


def errors_of(rows: Sequence[RequestRow]) -> dict[str, int]:
    """How many measured requests failed, by kind."""
    return dict(Counter(str(each["error"]) for each in measured(rows) if each["error"]))


def span_s(rows: Sequence[RequestRow]) -> float:
    """From the first measured request (due, in an open loop) to the last reply; 0 without any."""
    mine = measured(rows)
    if not mine:
        return 0.0
    began = min(float(each["sent_s"] if each["scheduled_s"] == "" else each["scheduled_s"]) for each in mine)
    return max(float(each["done_s"]) for each in mine) - began
