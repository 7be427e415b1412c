"""Soak test of our server: memory every 5 s, errors and p99 under a steady load.

python benchmarks/soak.py --minutes 10 [--connections 20]

Memory is flat if, without the first minute (or the first fifth of a shorter run), in which allocators and caches fill,
the median of the last third is at most 5 % above that of the first third. Chats are stored, and stored data is not a
leak; therefore the customers' messages are deleted through the API every `--forget-every` seconds. Exit code 1 if
memory is not flat or a request failed.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import servers
import wrk
from serving import random_queries
from wrk import Window

from bankllm import datasets
from bankllm.errors import BankLLMError, NotMeasured
from bankllm.loadtest.experiments.soak import delete_memory
from bankllm.loadtest.server_process import ServerProcess

SAMPLE_S = 5
WARM_UP_S = 60
MAX_WARM_UP_SHARE = 0.2
"""Warm-up of a short run, as a share of the run."""
MAX_GROWTH = 0.05
MIN_SAMPLES = 6
Sample = tuple[float, float]
"""(seconds since the start of the load, resident memory in MiB)."""


@dataclass(frozen=True)
class Memory:
    """Medians in MiB: of the first and last quarter of the run, and of the first and last third after the warm-up."""

    first_quarter_mib: float
    last_quarter_mib: float
    first_third_mib: float
    last_third_mib: float
    samples: int

    @property
    def growth(self) -> float:
        """Growth from the first third after the warm-up to the last third, as a share."""
        return self.last_third_mib / self.first_third_mib - 1

    @property
    def flat(self) -> bool:
        return self.growth <= MAX_GROWTH


def judge(samples: Sequence[Sample], seconds: float) -> Memory:
    """Compute the medians. Raises `NotMeasured` if there are too few samples after the warm-up."""
    warm = min(WARM_UP_S, MAX_WARM_UP_SHARE * seconds)
    mib, kept = [mib for _, mib in samples], [mib for at, mib in samples if at >= warm]
    if len(kept) < MIN_SAMPLES:
        raise NotMeasured(
            f"Expected at least {MIN_SAMPLES} memory samples after {warm:.0f} s of warm-up, found {len(kept)}. "
            "Increase --minutes."
        )
    quarter, third = max(1, len(mib) // 4), len(kept) // 3
    return Memory(
        first_quarter_mib=statistics.median(mib[:quarter]),
        last_quarter_mib=statistics.median(mib[-quarter:]),
        first_third_mib=statistics.median(kept[:third]),
        last_third_mib=statistics.median(kept[-third:]),
        samples=len(samples),
    )


def sample(server: ServerProcess, load_done: Event, customers: Sequence[str], forget_every: float) -> list[Sample]:
    """Sample the memory until the load ends, and delete the customers' messages every `forget_every` s (0: never)."""
    began = time.monotonic()
    last_delete, samples = began, list[Sample]()
    while not load_done.wait(max(0.0, began + len(samples) * SAMPLE_S - time.monotonic())):
        samples.append((time.monotonic() - began, server.rss_bytes() / 2**20))
        print(f"{samples[-1][0]:6.0f} s  {samples[-1][1]:7.1f} MiB", flush=True)
        if forget_every and time.monotonic() - last_delete >= forget_every:
            delete_all_memory(server.url, customers)
            last_delete = time.monotonic()
    return samples


def delete_all_memory(url: str, customers: Sequence[str]) -> None:
    """Delete the messages of each customer with the customer's token. Raises `ServerError` on failure."""
    for customer in customers:
        delete_memory(url, [customer], servers.token(customer))


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
        if options.forget_every:
            delete_all_memory(server.url, customers)  # also checks, before the load, that deleting works
        load_done = Event()
        sampling = pool.submit(sample, server, load_done, customers, options.forget_every)
        try:
            url = server.url + contender.path
            window = wrk.drive(calls, url, Path(name), seconds=seconds, connections=options.connections)
        finally:
            load_done.set()
        samples = sampling.result()
    memory = judge(samples, seconds)
    print_summary(window, memory)
    if options.json:
        figures = {**asdict(window), **asdict(memory), "growth": memory.growth, "flat": memory.flat}
        settings = {"ours_args": options.ours_args, "ours_env": options.ours_env, "customers": options.customers}
        with options.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"part": "soak", **settings, **figures, "memory": samples}) + "\n")
    return memory.flat and not window.errors and window.answered > 0


def print_summary(window: Window, memory: Memory) -> None:
    drift = memory.last_quarter_mib / memory.first_quarter_mib - 1
    print(
        f"{window.answered:,} chats answered in {window.seconds:.0f} s, {window.per_second:.1f}/s, "
        f"p50 {window.p50_ms:.1f}  p99 {window.p99_ms:.1f} ms, errors {window.errors or 0}"
    )
    print(
        f"memory, {memory.samples} samples: median of the first quarter {memory.first_quarter_mib:.1f} MiB, of the "
        f"last {memory.last_quarter_mib:.1f} MiB, drift {drift:+.1%} including the warm-up"
    )
    print(
        f"after the warm-up, growth from the first to the last third: {memory.growth:+.1%}, "
        f"{'flat' if memory.flat else 'NOT flat'} (at most {MAX_GROWTH:+.0%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--connections", type=int, default=20)
    parser.add_argument(
        "--forget-every",
        type=float,
        default=30,
        metavar="SECONDS",
        help="interval between deletes of the stored messages; 0: never",
    )
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the result as a JSON line")
    servers.add_options(parser)
    try:
        well = run(parser.parse_args())
    except BankLLMError as error:
        sys.exit(f"Error: {error}")
    sys.exit(not well)


if __name__ == "__main__":
    main()
