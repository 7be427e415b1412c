"""`run_load`: send requests to a server with one of the drivers, and return one row per request.

with ServerProcess(store=folder / "memory.db") as server:
    result = run_load(server.url, "locust", messages=texts, customers=["CUST001"], output=folder / "locust")
run.write_rows("load", result.rows)
"""

import shutil
import ssl
from collections.abc import Container
from pathlib import Path
from typing import Any

import httpx

from bankllm.errors import NotMeasured, ServerError
from bankllm.evidence.record_rules import busy_fault
from bankllm.loadtest.load import LOAD_DRIVERS, Load, LoadResult


class LoadInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a load; `result` contains the rows collected until then."""

    def __init__(self, result: LoadResult) -> None:
        super().__init__(result.invalid_because)
        self.result = result


def run_load(url: str, driver: str = "ab", *, output: Path, **settings: Any) -> LoadResult:
    """Send `warm_up` requests, then `requests` measured ones; the files of the load tool are left in `output`.

    `driver` is a name in `LOAD_DRIVERS`; `settings` are the other fields of `Load`, of which `messages` and `customers`
    are required. Failed requests and timeouts are rows. The server also receives one `GET /health` before and one after
    the load.

    Raises `UsageError` for invalid arguments or an address on another machine, `ServerError` if the server does not
    answer, `NotMeasured` if the load tool is not installed, and `LoadInterrupted` with the rows so far on Ctrl-C.
    """
    load = Load(url.rstrip("/"), driver, **settings)
    used = LOAD_DRIVERS.get(driver)
    check_reachable(load.url)
    if used.program and shutil.which(used.program) is None:
        raise NotMeasured(f"{used.program} not found; install it ({used.install}) and run again")
    output.mkdir(parents=True, exist_ok=True)
    result = used.run(load, output)
    because = [result.invalid_because] if result.invalid_because else []
    share = result.generator_cpu_share
    if share is not None and (fault := busy_fault(share)):
        because.append(fault)
    if not result.interrupted:
        try:
            check_reachable(load.url)
        except ServerError:
            because.append("the server does not answer after the load")
    result.invalid_because = "; ".join(because) or None
    if result.interrupted:
        raise LoadInterrupted(result)
    return result


def check_reachable(url: str) -> None:
    """Raise `ServerError` with the cause unless a server answers HTTP requests at `url`."""
    call_server("GET", f"{url}/health", statuses=range(600))


def call_server(
    method: str, url: str, token: str | None = None, statuses: Container[int] = range(200, 300)
) -> httpx.Response:
    """Send one request. Raises `ServerError` if no server answers, or with another status than `statuses`."""
    headers = {"Authorization": f"Bearer {token}"} if token else None
    try:
        # Trust the system's certificate authorities and SSL_CERT_FILE, as the open-loop driver does.
        context = ssl.create_default_context()
        reply = httpx.request(method, url, headers=headers, timeout=30, trust_env=False, verify=context)
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
    if reply.status_code not in statuses:
        raise ServerError(f"{method} {url}: expected success, found HTTP {reply.status_code}. See the server's log.")
    return reply
