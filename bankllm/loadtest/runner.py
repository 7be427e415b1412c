"""`run_load`: put a server under load and get one row a request.

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
MOST_BUSY = 0.9


@dataclass(frozen=True)
class LoadResult:
    """One load, one row a request (`load.COLUMNS`)."""

    driver: Driver
    rows: list[RequestRow]
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
    def measured(self) -> list[RequestRow]:
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
    check_answers(load.url)
    output.mkdir(parents=True, exist_ok=True)
    driven = DRIVERS[driver](load, output)
    because = [driven.invalid_because] if driven.invalid_because else []
    share = driven.generator_cpu_share
    if share is not None and share > MOST_BUSY:
        because.append(f"the load generator was busy for {share:.0%} of a core, over {MOST_BUSY:.0%}")
    if not driven.interrupted and (gone := _gone(load.url)):
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
        mix=load.mix,
        arrivals=None if rate is None else arrivals,
    )
    if driven.interrupted:
        raise LoadInterrupted(result)
    return result


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
