"""Does the server stay as it is for minutes on end? A steady load, and its memory read beside it.

soaked = soak(lambda: offer(0.7 * knee, requests, warm_up), server.rss_bytes, sample_s=5, between=forget, every_s=30)
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

import httpx

from bankllm.errors import ServerError
from bankllm.loadtest.load import RequestRow
from bankllm.loadtest.runner import LoadResult

SHARE = 0.7
"""Of the knee, which is offered."""
MOST_GROWTH = 0.05
"""By which memory may grow and still be called flat; see `evidence.statistics.growth`."""


@dataclass(frozen=True)
class Soak:
    """The load, and rows of `at_s` (seconds since it began) and `rss_bytes` (the server's and its workers')."""

    result: LoadResult
    memory: list[RequestRow]


def soak(
    load: Callable[[], LoadResult],
    rss_bytes: Callable[[], int],
    *,
    sample_s: float,
    between: Callable[[], None] = lambda: None,
    every_s: float = 30,
) -> Soak:
    """Run a load to its end while `rss_bytes` is read every `sample_s` and `between` called every `every_s` seconds.

    `between` is also called before the load: what earlier ones left would take time in the midst of this one.
    Raises what any of the three raises, once the load is over.
    """
    between()
    over = Event()
    with ThreadPoolExecutor(1, "memory") as pool:
        sampling = pool.submit(_sample, over, rss_bytes, sample_s, between, every_s)
        try:
            result = load()
        finally:
            over.set()
        return Soak(result, sampling.result())


def forget(url: str, customers: Sequence[str], token: str | None = None) -> None:
    """Let the server delete what it keeps of these customers: kept data is no leak, and would look like one.

    Raises `ServerError` where it does not.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for customer in customers:
        address = f"{url}/api/v1/customers/{customer}/memory"
        try:
            status = httpx.delete(address, headers=headers, timeout=30, trust_env=False).status_code
        except httpx.HTTPError as error:
            raise ServerError(f"DELETE {address} failed ({type(error).__name__}); see that the server runs.") from error
        if status != 204:
            raise ServerError(f"DELETE {address}: expected 204, found {status}. See the server's log.")


def _sample(
    over: Event, rss_bytes: Callable[[], int], sample_s: float, between: Callable[[], None], every_s: float
) -> list[RequestRow]:
    began = called = time.monotonic()
    memory: list[RequestRow] = []
    while not over.wait(max(0.0, began + len(memory) * sample_s - time.monotonic())):
        memory.append({"at_s": time.monotonic() - began, "rss_bytes": rss_bytes()})
        if time.monotonic() - called >= every_s:
            between()
            called = time.monotonic()
    return memory
