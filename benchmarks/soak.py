"""Soak test of our server: memory every 5 s, errors and p99 under a steady load.

python benchmarks/soak.py --minutes 10 [--connections 20]

Memory is flat if, without the first minute (or the first fifth of a shorter run), in which allocators and caches fill,
the median of the last third is at most 5 % above that of the first third. Chats are stored, and stored data is not a
leak; therefore the customers' messages are deleted through the API every 30 s. Exit code 1 if memory is not flat or a
request failed.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import servers
import wrk
from serving import random_queries

from bankllm import datasets
from bankllm.errors import BankLLMError, NotMeasured
from bankllm.evidence.statistics.samples import growth
from bankllm.loadtest.experiments.soak import MAX_GROWTH, delete_memory
from bankllm.loadtest.server_process import ServerProcess

SAMPLE_S, DELETE_S = 5, 30


def sample(server: ServerProcess, load_done: Event, customers: Sequence[str]) -> list[tuple[float, float]]:
    """Sample the memory until the load ends, and delete the customers' messages every `DELETE_S`."""
    began, samples = time.monotonic(), list[tuple[float, float]]()
    while not load_done.wait(max(0.0, began + len(samples) * SAMPLE_S - time.monotonic())):
        samples.append((time.monotonic() - began, server.rss_bytes() / 2**20))
        print(f"{samples[-1][0]:6.0f} s  {samples[-1][1]:7.1f} MiB", flush=True)
        if len(samples) % (DELETE_S // SAMPLE_S) == 1:
            for customer in customers:
                delete_memory(server.url, [customer], servers.token(customer))
    return samples


def run(options: argparse.Namespace) -> bool:
    """Run the soak test; return whether memory is flat and no request failed."""
    wrk.require()
    customers = servers.CUSTOMERS[: options.customers]
    calls = servers.chats(random_queries(datasets.load(options.dataset).test.texts, seed=0), customers)
    contender, seconds = servers.ours(options), 60 * options.minutes
    with (
        TemporaryDirectory(prefix="bankllm-soak-") as name,
        servers.start(contender, Path(name)) as server,
        ThreadPoolExecutor(1, "memory") as pool,
    ):
        load_done = Event()
        sampling = pool.submit(sample, server, load_done, customers)
        try:
            url = server.url + contender.path
            window = wrk.drive(calls, url, Path(name), seconds=seconds, connections=options.connections)
        finally:
            load_done.set()
        memory = growth([{"at": str(at), "mib": str(mib)} for at, mib in sampling.result()], "at", "mib")
    grown = memory.value
    if grown is None:
        raise NotMeasured(f"{memory.invalid_because}. Increase --minutes.")
    print(
        f"{window.answered:,} chats answered in {window.seconds:.0f} s, {window.per_second:.1f}/s, "
        f"p50 {window.p50_ms:.1f}  p99 {window.p99_ms:.1f} ms, errors {window.errors or 0}\n"
        f"memory grew by {grown:+.1%} after the warm-up: {'flat' if grown <= MAX_GROWTH else 'NOT flat'} "
        f"(at most {MAX_GROWTH:+.0%})"
    )
    return grown <= MAX_GROWTH and not window.errors and window.answered > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument("--dataset", default="auto")
    servers.add_options(parser)
    try:
        sys.exit(not run(parser.parse_args()))
    except BankLLMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
