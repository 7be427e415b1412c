"""Soak test: run a steady load for minutes and sample the server's memory meanwhile."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from bankllm.loadtest.load import LoadResult, RequestRow
from bankllm.loadtest.runner import call_server

SHARE = 0.7
"""Offered rate as a share of the knee."""
MAX_GROWTH = 0.05
"""Largest growth of memory that counts as flat, as a share; see the statistic `growth` in `evidence.statistics`."""


def soak(
    load: Callable[[], LoadResult],
    rss_bytes: Callable[[], int],
    *,
    sample_s: float,
    between: Callable[[], None] = lambda: None,
    every_s: float = 30,
) -> tuple[LoadResult, list[RequestRow]]:
    """Run a load; meanwhile call `rss_bytes` every `sample_s` seconds and `between` every `every_s` seconds.

    Returns the result of the load and the samples: `at_s` (seconds since the start of the load) and `rss_bytes`
    (resident memory). Raises any error of the three functions, after the load has ended.
    """
    between()  # data that earlier loads left would make its first call in the load slow
    load_done = Event()

    def sample() -> list[RequestRow]:
        began = called = time.monotonic()
        memory: list[RequestRow] = []
        while not load_done.wait(max(0.0, began + len(memory) * sample_s - time.monotonic())):
            memory.append({"at_s": time.monotonic() - began, "rss_bytes": rss_bytes()})
            if time.monotonic() - called >= every_s:
                between()
                called = time.monotonic()
        return memory

    with ThreadPoolExecutor(1, "memory") as pool:
        sampling = pool.submit(sample)
        try:
            result = load()
        finally:
            load_done.set()
        return result, sampling.result()


def delete_memory(url: str, customers: Sequence[str]) -> None:
    """Delete the stored messages of these customers on the server, so that stored data is not mistaken for a leak.

    Raises `ServerError` if the server refuses.
    """
    for customer in customers:
        call_server("DELETE", f"{url}/api/v1/customers/{customer}/memory")
