"""`run_load`: put a server under load and get one row a request.

with ServerProcess(store=folder / "memory.db") as server:
    result = run_load(server.url, "locust", messages=texts, customers=["CUST001"], output=folder / "locust")
run.write_rows("load", result.rows)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx

from bankllm.errors import ServerError, UsageError
from bankllm.loadtest.drivers import run_ab, run_locust
from bankllm.loadtest.load import Driven, Kind, Load, Row
from bankllm.processes import is_loopback

Driver = Literal["ab", "locust"]
DRIVERS: dict[Driver, Callable[[Load, Path], Driven]] = {"ab": run_ab, "locust": run_locust}
MOST_BUSY = 0.9


@dataclass(frozen=True)
class LoadResult:
    """One load. Each row holds:

    - `driver`: the tool; `worker`: which of its processes, from 0; `kind`: `chat` or `health`;
    - `sent_s`: seconds on one clock since the load began (ab: whole seconds);
    - `latency_ms`: from sending to the last byte of the reply, or to the failure (ab: whole milliseconds);
    - `status`: the HTTP status, 0 where no reply came (ab: `2xx` if all were, else empty);
    - `bytes`: length of the body (ab: empty);
    - `error`: empty if all went well, else `HTTP 503` or the failure's name (ab: `unknown` in all rows if any failed).
    """

    driver: Driver
    rows: list[Row]
    errors: dict[str, int]
    """How many requests failed, by kind of failure."""
    users: int
    seconds: float
    """From the first request to the last reply, as precisely as the driver tells it."""
    generator_cpu_share: float | None
    """How busy the load generator was, as a share of one core; None where it was cut short."""
    limits: tuple[str, ...]
    """What this driver cannot tell or do."""
    invalid_because: str | None
    """Why no figure of this load may be used; None where they may."""

    def summary(self) -> dict[str, str | int | float]:
        """The load in one row, for a raw file of its own."""
        return {
            "driver": self.driver,
            "users": self.users,
            "requests": len(self.rows),
            "failed": sum(self.errors.values()),
            "seconds": self.seconds,
            "requests_per_s": len(self.rows) / self.seconds,
            "generator_cpu_share": "" if self.generator_cpu_share is None else self.generator_cpu_share,
            "invalid_because": self.invalid_because or "",
        }


def run_load(
    url: str,
    driver: Driver = "ab",
    *,
    messages: Sequence[str],
    customers: Sequence[str],
    output: Path,
    users: int = 100,
    requests: int = 1000,
    kind: Kind = "chat",
    wait_s: tuple[float, float] = (1, 3),
    timeout_s: float = 30,
    token: str | None = None,
    seed: int = 0,
    allow_remote: bool = False,
) -> LoadResult:
    """Send exactly `requests` requests from `users` concurrent users, closed loop; `output` keeps the tool's files.

    `ab` sends the first message of the first customer to the endpoint of `kind` without a pause; `locust` mixes
    one health check to two chats over all messages and customers, `wait_s` apart (`kind` is not used).
    `token` goes out as `Authorization: Bearer …`, for ab on its command line. Errors and time-outs are rows.
    The server sees one more `GET /health` before the load, to find out that it answers.

    Raises `UsageError` for arguments that do not fit or an address beyond this machine, `ServerError` if nothing
    answers there, `NotMeasured` if the tool is not installed.
    """
    url = url.rstrip("/")
    _check(url, driver, messages, customers, users, requests, wait_s, allow_remote)
    _check_answers(url)
    output.mkdir(parents=True, exist_ok=True)
    load = Load(url, users, requests, messages, customers, kind, wait_s, timeout_s, seed, token)
    driven = DRIVERS[driver](load, output)
    because = [driven.invalid_because] if driven.invalid_because else []
    share = driven.generator_cpu_share
    if share is not None and share > MOST_BUSY:
        because.append(f"the load generator was busy for {share:.0%} of a core, over {MOST_BUSY:.0%}")
    return LoadResult(
        driver=driver,
        rows=driven.rows,
        errors=driven.errors,
        users=users,
        seconds=driven.seconds,
        generator_cpu_share=share,
        limits=driven.limits,
        invalid_because="; ".join(because) or None,
    )


def _check(
    url: str,
    driver: str,
    messages: Sequence[str],
    customers: Sequence[str],
    users: int,
    requests: int,
    wait_s: tuple[float, float],
    allow_remote: bool,
) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not an HTTP address. Expected something like http://127.0.0.1:8000.")
    if not allow_remote and not is_loopback(parts.hostname):
        raise UsageError(
            f"{parts.hostname} is not this machine. Load goes to loopback unless you say that the host is yours "
            "(allow_remote=True)."
        )
    if driver not in DRIVERS:
        raise UsageError(f"Unknown load driver {driver!r}. Expected one of: {', '.join(DRIVERS)}.")
    if not 1 <= users <= requests:
        raise UsageError(
            f"Expected at least one user and a request for each; found users={users}, requests={requests}."
        )
    if not messages or not customers:
        raise UsageError(f"Expected messages and customers; found {len(messages)} and {len(customers)}.")
    if not 0 <= wait_s[0] <= wait_s[1]:
        raise UsageError(f"Expected wait_s as (shortest, longest) in seconds; found {wait_s}.")


def _check_answers(url: str) -> None:
    try:
        httpx.get(f"{url}/health", timeout=10, trust_env=False)
    except httpx.HTTPError as error:
        raise ServerError(
            f"Nothing answers at {url} ({error}). Start the server first, or correct the address."
        ) from error
