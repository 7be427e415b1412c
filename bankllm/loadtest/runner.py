"""`run_load`: send requests to a server with one of the drivers, and return one row per request.

with ServerProcess(store=folder / "memory.db") as server:
    result = run_load(server.url, "locust", messages=texts, customers=["CUST001"], output=folder / "locust")
run.write_rows("load", result.rows)
"""

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from bankllm.errors import ServerError
from bankllm.evidence.validity_marks import busy_fault
from bankllm.loadtest.drivers.apache_bench import run_ab
from bankllm.loadtest.drivers.locust_driver import run_locust
from bankllm.loadtest.drivers.open_loop import run_open_loop
from bankllm.loadtest.load import Arrivals, Driver, DriverResult, Load, Mix, RequestRow, Value, measured
from bankllm.loadtest.validation import plan

DRIVERS: dict[Driver, Callable[[Load, Path], DriverResult]] = {
    "ab": run_ab,
    "locust": run_locust,
    "open-loop": run_open_loop,
}


@dataclass(frozen=True)
class LoadResult:
    """The result of one load, with one row per request (`load.COLUMNS`)."""

    driver: Driver
    rows: list[RequestRow]
    """All rows. Rows of the warm-up have the phase `warm_up` and enter no result."""
    errors: dict[str, int]
    """Kind of failure → number of measured requests that failed."""
    users: int
    """Concurrent users of a closed loop; 0 in an open loop."""
    rate: float | None
    """Offered rate in requests per second; None in a closed loop."""
    seconds: float
    """From the first measured request to the last reply, with the resolution of the driver."""
    generator_cpu_share: float | None
    """CPU time of the load generator divided by wall time, as a share of one core. None if the load was cut short."""
    limits: tuple[str, ...]
    """What this driver cannot measure or do."""
    invalid_because: str | None
    """Why the results of this load must not be used; None if they may be."""
    mix: Mix = "chat"
    arrivals: Arrivals | None = None
    """None in a closed loop."""

    @property
    def measured(self) -> list[RequestRow]:
        """The rows without the warm-up."""
        return measured(self.rows)

    def summary(self) -> dict[str, Value]:
        """The load as one row, for the raw file of summaries."""
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
    """Ctrl-C ended a load; `result` contains the rows collected until then."""

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
    """Send `warm_up` requests, then `requests` measured ones; the files of the load tool are left in `output`.

    - `ab`: closed loop, `users` concurrent requests without pauses. It sends the first message of the first customer;
      `kind` must be `chat` or `health`.
    - `locust`: closed loop, `users` concurrent users who pause for `wait_s` seconds (shortest, longest).
    - `open-loop`: `rate` requests per second become due (`arrivals`), regardless of how many replies are pending;
      `users` and `wait_s` are not used.

    `kind` is `chat`, `health` or `mix` (one health check per two chats); the default is `mix` for Locust and `chat`
    for the others. The message and the customer of each chat are drawn at random, except by ab. `token` is sent as
    `Authorization: Bearer …`: one token for all customers or one per customer. ab gets the token on its command line,
    where other users of this machine can read it.

    Failed requests and timeouts are rows. The server also receives one `GET /health` before and one after the load.

    Raises `UsageError` for invalid arguments or an address on another machine, `ServerError` if the server does not
    answer, `NotMeasured` if the load tool is not installed, and `LoadInterrupted` with the rows so far on Ctrl-C.
    """
    load = plan(
        url,
        driver,
        kind,
        allow_remote=allow_remote,
        messages=messages,
        customers=customers,
        users=users,
        requests=requests,
        wait_s=wait_s,
        timeout_s=timeout_s,
        token=token,
        seed=seed,
        warm_up=warm_up,
        rate=rate,
        arrivals=arrivals,
    )
    check_reachable(load.url)
    output.mkdir(parents=True, exist_ok=True)
    driver_result = DRIVERS[driver](load, output)
    because = [driver_result.invalid_because] if driver_result.invalid_because else []
    share = driver_result.generator_cpu_share
    if share is not None and (fault := busy_fault(share)):
        because.append(fault)
    if not driver_result.interrupted and (fault := _unreachable_fault(load.url)):
        because.append(fault)
    result = LoadResult(
        driver=driver,
        rows=driver_result.rows,
        errors=driver_result.errors,
        users=load.users,
        rate=rate,
        seconds=driver_result.seconds,
        generator_cpu_share=share,
        limits=driver_result.limits,
        invalid_because="; ".join(because) or None,
        mix=load.mix,
        arrivals=None if rate is None else arrivals,
    )
    if driver_result.interrupted:
        raise LoadInterrupted(result)
    return result


def check_reachable(url: str) -> None:
    """Raise `ServerError` with the cause unless a server answers HTTP requests at `url`."""
    try:
        # Trust the system's certificate authorities and SSL_CERT_FILE, as the open-loop driver does.
        verify = ssl.create_default_context()
        httpx.get(f"{url}/health", timeout=10, trust_env=False, verify=verify)
    except httpx.RemoteProtocolError as error:
        raise ServerError(
            f"The program at {url} did not answer with HTTP ({error}). Correct the address or the port."
        ) from error
    except httpx.HTTPError as error:
        if "SSL" in str(error) or "CERTIFICATE" in str(error).upper():
            raise ServerError(
                f"The TLS connection to {url} failed ({error}). Use http:// if the server does not use TLS. For a "
                "self-signed certificate, set SSL_CERT_FILE to the file of its certificate authority."
            ) from error
        raise ServerError(
            f"No server answers at {url} ({error}). Start the server (bankllm serve), or correct the address."
        ) from error


def _unreachable_fault(url: str) -> str | None:
    try:
        check_reachable(url)
    except ServerError:
        return "the server does not answer after the load"
    return None
