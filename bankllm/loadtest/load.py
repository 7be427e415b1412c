"""What a load asks for and what came of it: every driver takes a `Load` and gives a `Driven`, one row a request.

The rows of all drivers share `COLUMNS`, so that one statistic reads them all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Row = dict[str, str | int | float]
Kind = Literal["chat", "health"]
Arrivals = Literal["poisson", "constant"]
PATHS: dict[Kind, str] = {"chat": "/api/v1/chat", "health": "/health"}

COLUMNS = {
    "driver": "ab, locust or open-loop",
    "worker": "which of the driver's processes, from 0",
    "kind": "chat or health",
    "phase": "warm_up, opening (a closed-loop user's first request after no warm-up) or steady; empty: not told",
    "scheduled_s": "open loop: when the request was due; empty in a closed loop, where nothing is ever due",
    "sent_s": "when it was sent, in seconds on one clock since the load began, as is every column in s",
    "first_byte_s": "when the reply's head was there; empty where the driver cannot tell",
    "done_s": "when the reply's last byte was there, or the failure",
    "latency_ms": "what a user waited: from due (open loop) or sent (closed loop) to done",
    "service_ms": "from sent to done: what a tool shows that does not count the wait before sending",
    "status": "HTTP status, 0 where no reply came; 2xx where ab saw nothing else",
    "bytes": "length of the body; empty where the driver cannot tell",
    "error": "empty if all went well, else HTTP 503 or the failure's name",
}
"""The columns of the per-request table, in order, and what they hold."""


@dataclass(frozen=True)
class Load:
    """What to ask of the server. `wait_s` bounds the pause of a Locust user between requests, in seconds."""

    url: str
    users: int
    requests: int
    """Measured ones; those of the warm-up come before them."""
    messages: Sequence[str]
    customers: Sequence[str]
    kind: Kind
    wait_s: tuple[float, float]
    timeout_s: float
    seed: int
    token: str | None = field(default=None, repr=False)
    warm_up: int = 0
    """Requests sent before the measured ones, handed over without a pause."""
    rate: float | None = None
    """Open loop: requests a second that become due."""
    arrivals: Arrivals = "poisson"

    def longest_s(self) -> float:
        """When even a server that lets every request time out would be through, with a minute for the start."""
        rounds = (self.warm_up + self.requests) / self.users + 1
        return 60 + rounds * (self.timeout_s + self.wait_s[1])


@dataclass(frozen=True)
class Driven:
    """What a driver saw. `generator_cpu_share` is of one core, over the load alone; None where it was cut short."""

    rows: list[Row]
    errors: dict[str, int]
    seconds: float
    generator_cpu_share: float | None
    limits: tuple[str, ...]
    invalid_because: str | None = None
