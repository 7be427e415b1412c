"""Soak test of our server: memory every 5 s, errors and p99 with 20 connections in a closed loop.

python benchmarks/soak.py --minutes 10

Memory is flat if, without the first minute (or the first fifth of a shorter run), in which allocators and caches fill,
the median of the last third is at most 5 % above that of the first third. Chats are stored, and stored data is not a
leak; therefore the customers' messages are deleted through the API every 30 s. Exit code 1 if memory is not flat or a
request failed.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import wrk
from servers import CUSTOMERS
from serving import random_queries

from bankllm import datasets
from bankllm.errors import BankLLMError, NotMeasured
from bankllm.evidence.statistics.samples import growth
from bankllm.loadtest.experiments.soak import MAX_GROWTH, delete_memory, soak
from bankllm.loadtest.server_process import ServerProcess


def run(minutes: float) -> bool:
    """Run the soak test; return whether memory is flat and no request failed."""
    wrk.require()
    texts = random_queries(datasets.load("auto").test.texts, seed=0)
    calls = [wrk.Call({"message": text, "customer_id": CUSTOMERS[n % 10]}) for n, text in enumerate(texts)]
    environment = {"BANKLLM_JWT_SECRET": "", "BANKLLM_RATE_LIMIT": "off"}
    with (
        TemporaryDirectory(prefix="bankllm-soak-") as name,
        ServerProcess(store=Path(name, "store.sqlite"), env=environment) as server,
    ):

        def load() -> wrk.Window:
            url = f"{server.url}/api/v1/chat"
            return wrk.drive(calls, url, Path(name), seconds=60 * minutes, connections=20)

        def rss_bytes() -> int:
            rss = server.rss_bytes()
            print(f"{rss / 2**20:7.1f} MiB", flush=True)
            return rss

        window, samples = soak(load, rss_bytes, sample_s=5, between=lambda: delete_memory(server.url, CUSTOMERS))
    memory = growth([{name: str(value) for name, value in each.items()} for each in samples], "at_s", "rss_bytes")
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
    try:
        sys.exit(not run(parser.parse_args().minutes))
    except BankLLMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
