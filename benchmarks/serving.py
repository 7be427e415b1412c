"""Chats per second with 100 connections: a pipeline per request, LitServe and our server, in one run on one machine.

python benchmarks/serving.py                            # everything, about six minutes
python benchmarks/serving.py --only ours --ours-args="--adapter FOLDER"

The servers alternate (a, b, c, a, b, c), each newly started and warmed up. The peers only classify, with a head of
random weights. Our server checks a token, classifies, searches and writes the message store, and generates the reply.
`idle` is our server with one connection. wrk runs on the same machine; a window in which other programs used the CPU is
marked as noisy. No cache is enabled.
"""

import argparse
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import servers
import wrk

from bankllm import datasets
from bankllm.errors import BankLLMError, ServerError
from bankllm.evidence.record_rules import MAX_GENERATOR_CPU_SHARE

PARTS = ("peers", "ours", "idle")
CONNECTIONS = 100
QUERIES = 4096
"""Number of queries, drawn with replacement; wrk repeats them."""
MAX_OTHER_CORES = 0.1
"""A window is marked as noisy if other programs used more cores than this."""
WARM_UP_S, SETTLE_S = 5, 60


def random_queries(texts: Sequence[str], seed: int) -> list[str]:
    return random.Random(seed).choices(texts, k=QUERIES)


def measure(contender: servers.Contender, calls: Sequence[wrk.Call], seconds: int, connections: int) -> float:
    """Start a contender, warm it up and measure one window. Returns requests answered per second."""
    with TemporaryDirectory(prefix="bankllm-serving-") as name, contender.process(Path(name)) as server:
        url, folder = server.url + contender.path, Path(name)
        wrk.drive(calls, url, folder, seconds=WARM_UP_S, connections=connections)
        # Wait until the requests that the warm-up left in the queue are answered, so that the window excludes them.
        headers = {"Authorization": f"Bearer {calls[0].token}"}
        settled = httpx.post(url, json=calls[0].body, headers=headers, timeout=SETTLE_S, trust_env=False)
        before, began = servers.CpuClock.read(server), time.perf_counter()
        window = wrk.drive(calls, url, folder, seconds=seconds, connections=connections)
        after, elapsed_s = servers.CpuClock.read(server), time.perf_counter() - began
        rss_mib = server.rss_bytes() / 2**20
        if settled.status_code != 200 or not window.answered:
            raise ServerError(
                f"{contender.name}: expected HTTP 200, found HTTP {settled.status_code}; then {window.answered} "
                f"requests were answered in {seconds} s, and wrk counted {window.errors}. See the end of the server's "
                f"log:\n{server.log_tail()}"
            )
    server_cores = (after.server - before.server) / elapsed_s
    others = max(0.0, (after.machine - before.machine) / elapsed_s - server_cores - window.generator_cpu_share)
    faults = ", ".join(f"{count} × {kind}" for kind, count in window.errors.items())
    notes = f"  NOISY: other programs used {others:.2f} cores" if others > MAX_OTHER_CORES else ""
    if window.generator_cpu_share > MAX_GENERATOR_CPU_SHARE:
        notes += f"  wrk used {window.generator_cpu_share:.0%} of a core"
    print(
        f"{contender.name:<22} {connections:>3} connections  {window.per_second:8.1f}/s  p50 {window.p50_ms:7.1f}  "
        f"p95 {window.p95_ms:7.1f}  p99 {window.p99_ms:7.1f} ms  errors {faults or 0}  {rss_mib:6.0f} MiB  "
        f"CPU {1000 * server_cores / window.per_second:.2f} ms each, {server_cores:.2f} cores{notes}",
        flush=True,
    )
    return window.per_second


def run(options: argparse.Namespace) -> None:
    """Measure the chosen parts, and print the ratios of the servers' medians."""
    wrk.require()
    data, customers = datasets.load("auto"), servers.CUSTOMERS[: options.customers]
    print(f"{os.cpu_count()} cores, {platform.platform()}; {data.describe()}; {vars(options)}", flush=True)
    mine = servers.ours(options.ours_args)
    contenders = (servers.peers() if "peers" in options.only else []) + ([mine] if "ours" in options.only else [])
    for missing in [contender for contender in contenders if contender.missing]:
        print(f"{missing.name} is left out: {missing.missing}", flush=True)
        contenders.remove(missing)
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for round_ in range(options.rounds):
        calls = servers.chats(random_queries(data.test.texts, seed=round_), customers)
        for contender in contenders:
            rates[contender.name].append(measure(contender, calls, options.seconds, CONNECTIONS))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, median in medians.items():
        print(f"{name:<22} median {median:.1f}/s", flush=True)
        if mine.name in medians and name != mine.name:
            print(f"{mine.name} is {medians[mine.name] / median:.2f} × {name}", flush=True)
    if "idle" in options.only:
        measure(mine, servers.chats(random_queries(data.test.texts, seed=0), customers), options.seconds, connections=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="seconds per measured window")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--customers", type=int, default=1, choices=range(1, 11), metavar="1..10")
    parser.add_argument(
        "--ours-args", default="", help='options of `bankllm serve`, for example --ours-args="--workers 2"'
    )
    try:
        run(parser.parse_args())
    except BankLLMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
