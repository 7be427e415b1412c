"""`run_load`: put a server under load and get one row a request.

with ServerProcess(store=folder / "memory.db") as server:
    result = run_load(server.url, "locust", messages=texts, customers=["CUST001"], output=folder / "locust")
run.write_rows("load", result.rows)
"""

import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import urlsplit

import httpx

from bankllm.errors import ServerError, UsageError
from bankllm.loadtest.apache_bench import run_ab
from bankllm.loadtest.banking_users import run_locust
from bankllm.loadtest.load import Arrivals, Driven, Load, Mix, Row, Value, measured
from bankllm.loadtest.open_loop import run_open_loop
from bankllm.processes import is_loopback

Driver = Literal["ab", "locust", "open-loop"]
DRIVERS: dict[Driver, Callable[[Load, Path], Driven]] = {
    "ab": run_ab,
    "locust": run_locust,
    "open-loop": run_open_loop,
}
OWN_MIX: dict[Driver, Mix] = {"ab": "chat", "locust": "mix", "open-loop": "chat"}
MOST_BUSY = 0.9
MOST_RATE = 20_000
"""Far above what one generator process holds on any machine."""


@dataclass(frozen=True)
class LoadResult:
    """One load, one row a request (`load.COLUMNS`)."""

    driver: Driver
    rows: list[Row]
    """Those of the warm-up included (`phase` is `warm_up`); no figure counts them."""
    errors: dict[str, int]
    """How many measured requests failed, by kind of failure."""
    users: int
    """0 in an open loop."""
    rate: float | None
    """Requests a second that became due; None in a closed loop."""
    seconds: float
    """From the first measured request to the last reply, as precisely as the driver tells it."""
    generator_cpu_share: float | None
    """How busy the load generator was, as a share of one core; None where it was cut short."""
    limits: tuple[str, ...]
    """What this driver cannot tell or do."""
    invalid_because: str | None
    """Why no figure of this load may be used; None where they may."""
    mix: Mix = "chat"
    arrivals: Arrivals | None = None
    """None in a closed loop."""

    @property
    def measured(self) -> list[Row]:
        """The rows without the warm-up's."""
        return measured(self.rows)

    def summary(self) -> dict[str, Value]:
        """The load in one row, for a raw file of its own."""
        requests = len(self.measured)
        return {
            "driver": self.driver,
            "mix": self.mix,
            "users": self.users,
            "rate": "" if self.rate is None else self.rate,
            "arrivals": self.arrivals or "",
            "requests": requests,
            "warm_up": len(self.rows) - requests,
            "failed": sum(self.errors.values()),
            "seconds": self.seconds,
            "requests_per_s": requests / self.seconds if self.seconds else 0.0,
            "generator_cpu_share": "" if self.generator_cpu_share is None else self.generator_cpu_share,
            "invalid_because": self.invalid_because or "",
        }


class LoadInterrupted(KeyboardInterrupt):
    """Ctrl-C during a load; `result` holds what there was until then."""

    def __init__(self, result: LoadResult) -> None:
        super().__init__(result.invalid_because)
        self.result = result


def run_load(
    url: str,
    driver: Driver = "ab",
    *,
    messages: Sequence[str],
    customers: Sequence[str],
    output: Path,
    users: int = 100,
    requests: int = 1000,
    kind: Mix | None = None,
    wait_s: tuple[float, float] = (1, 3),
    timeout_s: float = 30,
    token: str | Mapping[str, str] | None = None,
    seed: int = 0,
    allow_remote: bool = False,
    warm_up: int = 0,
    rate: float | None = None,
    arrivals: Arrivals = "poisson",
) -> LoadResult:
    """Send `requests` requests after `warm_up` others, handed over without a pause; `output` keeps the tool's files.

    - `ab`: closed loop, `users` at once without a pause, the first message of the first customer, `chat` or `health`;
    - `locust`: closed loop, `users` who pause for `wait_s`;
    - `open-loop`: `rate` requests a second become due (`arrivals`), however many are unanswered; `users` and
      `wait_s` are not used.

    `kind` is `chat`, `health` or `mix` (one health check to two chats), left out `mix` for Locust and `chat` for the
    others. Texts and customers are drawn at random for each chat, except by ab.
    `token` goes out as `Authorization: Bearer …`: one for all or one for each customer, for ab on its command line.
    Errors and time-outs are rows. The server sees one `GET /health` more before the load, and one after it.

    Raises `UsageError` for arguments that do not fit or an address beyond this machine, `ServerError` if nothing
    answers there, `NotMeasured` if the tool is not installed, `LoadInterrupted` with what there is on Ctrl-C.
    """
    url = url.rstrip("/")
    check_address(url, allow_remote)
    if driver not in DRIVERS:
        raise UsageError(f"Unknown load driver {driver!r}. Expected one of: {', '.join(DRIVERS)}.")
    mix = kind or OWN_MIX[driver]
    open_loop = driver == "open-loop"
    load = Load(
        url=url,
        users=0 if open_loop else users,
        requests=requests,
        messages=messages,
        customers=customers,
        mix=mix,
        wait_s=wait_s,
        timeout_s=timeout_s,
        seed=seed,
        token=token,
        warm_up=warm_up,
        rate=rate,
        arrivals=arrivals,
    )
    _check(load, driver)
    check_answers(url)
    output.mkdir(parents=True, exist_ok=True)
    driven = DRIVERS[driver](load, output)
    because = [driven.invalid_because] if driven.invalid_because else []
    share = driven.generator_cpu_share
    if share is not None and share > MOST_BUSY:
        because.append(f"the load generator was busy for {share:.0%} of a core, over {MOST_BUSY:.0%}")
    if not driven.interrupted and (gone := _gone(url)):
        because.append(gone)
    result = LoadResult(
        driver=driver,
        rows=driven.rows,
        errors=driven.errors,
        users=load.users,
        rate=rate,
        seconds=driven.seconds,
        generator_cpu_share=share,
        limits=driven.limits,
        invalid_because="; ".join(because) or None,
        mix=mix,
        arrivals=arrivals if open_loop else None,
    )
    if driven.interrupted:
        raise LoadInterrupted(result)
    return result


def check_address(url: str, allow_remote: bool) -> None:
    """Raise `UsageError` unless `url` is an HTTP address, of this machine where no other is allowed."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is not an HTTP address. Expected something like http://127.0.0.1:8000.")
    if not allow_remote and not is_loopback(parts.hostname):
        raise UsageError(
            f"{parts.hostname} is not this machine. Load goes to loopback unless you say that the host is yours "
            "(--i-own-this-host, allow_remote=True)."
        )


def _check(load: Load, driver: Driver) -> None:
    if load.mix not in get_args(Mix):
        raise UsageError(f"Unknown kind of load {load.mix!r}. Expected one of: {', '.join(get_args(Mix))}.")
    if driver == "ab" and load.mix == "mix":
        raise UsageError("ab asks one endpoint. Expected kind chat or health, or the driver locust or open-loop.")
    if driver == "open-loop":
        _check_rate(load)
    elif load.rate is not None:
        raise UsageError(f"{driver} is a closed loop: its users set the pace. Leave the rate out, or use open-loop.")
    elif not 1 <= load.users <= load.requests:
        raise UsageError(
            f"Expected at least one user and a request for each; found users={load.users}, requests={load.requests}."
        )
    if load.requests < 1 or load.warm_up < 0:
        raise UsageError(
            f"Expected a request or more and no fewer than 0 to warm up; found requests={load.requests}, "
            f"warm_up={load.warm_up}."
        )
    if not load.messages or not load.customers:
        raise UsageError(f"Expected messages and customers; found {len(load.messages)} and {len(load.customers)}.")
    if not 0 <= load.wait_s[0] <= load.wait_s[1]:
        raise UsageError(f"Expected wait_s as (shortest, longest) in seconds; found {load.wait_s}.")
    if not 0 < load.timeout_s < math.inf:
        raise UsageError(f"Expected a timeout_s above 0; found {load.timeout_s}.")


def _check_rate(load: Load) -> None:
    if load.rate is None or not 0 < load.rate <= MOST_RATE:
        raise UsageError(
            f"An open loop needs a rate above 0 and up to {MOST_RATE:,} requests a second; found {load.rate}."
        )
    if load.arrivals not in get_args(Arrivals):
        raise UsageError(f"Unknown arrivals {load.arrivals!r}. Expected one of: {', '.join(get_args(Arrivals))}.")


def check_answers(url: str) -> None:
    """Raise `ServerError`, saying why, unless something answers at `url` over HTTP."""
    try:
        # The system's authorities and SSL_CERT_FILE, as the open loop has it.
        verify = ssl.create_default_context()
        httpx.get(f"{url}/health", timeout=10, trust_env=False, verify=verify)
    except httpx.RemoteProtocolError as error:
        raise ServerError(f"What listens at {url} does not speak HTTP ({error}). Correct the address.") from error
    except httpx.HTTPError as error:
        if "SSL" in str(error) or "CERTIFICATE" in str(error).upper():
            raise ServerError(
                f"TLS failed at {url} ({error}). Use http:// where the port is plain; where the certificate is your "
                "own, name its authority in SSL_CERT_FILE."
            ) from error
        raise ServerError(
            f"Nothing answers at {url} ({error}). Start the server first, or correct the address."
        ) from error


def _gone(url: str) -> str | None:
    try:
        check_answers(url)
    except ServerError:
        return "the server does not answer after the load"
    return None
