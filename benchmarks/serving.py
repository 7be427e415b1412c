"""Chats per second with 100 connections: a pipeline per request, LitServe and our server, in one run on one machine.

python benchmarks/serving.py                            # everything, about six minutes
python benchmarks/serving.py --only ours --ours-args="--adapter FOLDER"

The servers alternate (a, b, c, a, b, c), each newly started and warmed up. The peers only classify, with a head of
random weights. Our server checks a token, classifies, searches and writes the message store, and generates the reply.
wrk runs on the same machine; a window in which other programs used the CPU is marked as noisy. No cache is enabled.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import servers
import wrk
from wrk import Call

from bankllm import datasets
from bankllm.errors import BankLLMError, ServerError
from bankllm.evidence.validity_marks import MAX_GENERATOR_CPU_SHARE

PARTS = ("peers", "ours", "idle")
QUERIES = 4096
"""Number of queries, drawn with replacement; wrk repeats them."""
MAX_OTHER_CORES = 0.1
"""A window is marked as noisy if other programs used more cores than this."""
SETTLE_S = 60
IDLE_WARM_UP, IDLE_CHATS = 20, 300
Row = dict[str, object]


@dataclass(frozen=True)
class Plan:
    """The settings of a run; `keep` receives each row of results."""

    options: argparse.Namespace
    texts: Sequence[str]
    folder: Path
    keep: Callable[[Row], None]

    @property
    def customers(self) -> Sequence[str]:
        return servers.CUSTOMERS[: self.options.customers]


def random_queries(texts: Sequence[str], seed: int) -> list[str]:
    return random.Random(seed).choices(texts, k=QUERIES)


def measure(plan: Plan, part: str, contender: servers.Contender, calls: Sequence[Call], round_: int) -> float | None:
    """Start a contender, warm it up and measure one window. Returns requests answered per second.

    Returns None if the contender cannot run on this machine.
    """
    if contender.missing:
        plan.keep({"part": part, "server": contender.name, "not_measured": contender.missing})
        print(f"{contender.name:<22} not measured: {contender.missing}", flush=True)
        return None
    seconds, connections = plan.options.seconds, plan.options.connections
    with servers.start(contender, plan.folder) as server:
        url = server.url + contender.path
        wrk.drive(calls, url, plan.folder, seconds=plan.options.warm_up, connections=connections)
        # Wait until the requests that the warm-up left in the queue are answered, so that the window excludes them.
        list(send_one_by_one(server.port, contender.path, calls[:1], timeout_s=SETTLE_S))
        before, began = servers.CpuClock.read(server), time.perf_counter()
        window = wrk.drive(calls, url, plan.folder, seconds=seconds, connections=connections)
        after, elapsed_s = servers.CpuClock.read(server), time.perf_counter() - began
        rss_mib = server.rss_bytes() / 2**20
        if not window.answered:
            raise ServerError(
                f"{contender.name}: no request was answered in {seconds} s; wrk counted {window.errors}. Increase "
                f"--seconds, or see the end of the server's log:\n{server.log_tail()}"
            )
    server_cores = (after.server - before.server) / elapsed_s
    others = max(0.0, (after.machine - before.machine) / elapsed_s - server_cores - window.generator_cpu_share)
    cores = {"server_cores": server_cores, "others_cores": others}
    figures = {"requests_per_s": window.per_second, **asdict(window), "rss_mib": rss_mib, **cores}
    plan.keep({"part": part, "server": contender.name, "round": round_, "connections": connections, **figures})
    faults = ", ".join(f"{count} × {kind}" for kind, count in window.errors.items())
    notes = f"  NOISY: other programs used {others:.2f} cores" if others > MAX_OTHER_CORES else ""
    if window.generator_cpu_share > MAX_GENERATOR_CPU_SHARE:
        notes += f"  wrk used {window.generator_cpu_share:.0%} of a core"
    print(
        f"{contender.name:<22} {part:<6} round {round_}  {window.per_second:8.1f}/s  p50 {window.p50_ms:7.1f}  "
        f"p95 {window.p95_ms:7.1f}  p99 {window.p99_ms:7.1f} ms  errors {faults or 0}  {rss_mib:6.0f} MiB  "
        f"CPU {1000 * server_cores / window.per_second:.2f} ms each, {server_cores:.2f} cores{notes}",
        flush=True,
    )
    return window.per_second


def take_turns(plan: Plan) -> None:
    """Measure the alternating contenders and print the ratios of their medians."""
    only = plan.options.only
    mine = servers.ours(plan.options)
    contenders = (servers.peers(plan.options) if "peers" in only else []) + ([mine] if "ours" in only else [])
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for round_ in range(1, plan.options.rounds + 1):
        queries = servers.chats(random_queries(plan.texts, seed=round_), plan.customers)
        for contender in contenders:
            rate = measure(plan, "ours" if contender is mine else "peers", contender, queries, round_)
            rates[contender.name] += [] if rate is None else [rate]
    medians = {name: statistics.median(found) for name, found in rates.items() if found}
    ours = medians.get(mine.name)
    for name, median in medians.items():
        print(f"{name:<22} median {median:.1f}/s", flush=True)
        if ours is not None and name != mine.name:
            plan.keep({"part": "ratio", "of": mine.name, "to": name, "ratio": ours / median})
            print(f"{mine.name} is {ours / median:.2f} × {name}", flush=True)


def idle(plan: Plan) -> None:
    """Measure sequential chats on one keep-alive connection, without other load."""
    mine = servers.ours(plan.options)
    chats = servers.chats(random_queries(plan.texts, seed=0)[: IDLE_WARM_UP + IDLE_CHATS], plan.customers)
    with servers.start(mine, plan.folder) as server:
        milliseconds = list(send_one_by_one(server.port, mine.path, chats, wrk.REPLY_TIMEOUT_S))[IDLE_WARM_UP:]
        rss_mib = server.rss_bytes() / 2**20
    p50, p95, p99 = (float(value) for value in np.percentile(milliseconds, [50, 95, 99]))
    figures = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99, "min_ms": min(milliseconds), "rss_mib": rss_mib}
    plan.keep({"part": "idle", "server": mine.name, "requests": len(milliseconds), **figures})
    print(
        f"{mine.name:<22} idle   {len(milliseconds)} chats  p50 {p50:.2f}  p95 {p95:.2f}  p99 {p99:.2f}  "
        f"min {min(milliseconds):.2f} ms  {rss_mib:.0f} MiB",
        flush=True,
    )


def send_one_by_one(port: int, path: str, calls: Sequence[Call], timeout_s: float) -> Iterator[float]:
    """Send calls one at a time and yield the ms from sending to the last byte.

    Raises `ServerError` for the first reply whose status is not 200.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    for call in calls:
        body = json.dumps(call.body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {call.token}"}
        began = time.perf_counter()
        connection.request("POST", path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
        yield 1000 * (time.perf_counter() - began)
        if reply.status != 200:
            raise ServerError(
                f"{path}: expected HTTP 200, found HTTP {reply.status}: {content[:200]!r}. See the server's log."
            )
    connection.close()


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20, help="seconds per measured window")
    parser.add_argument("--warm-up", type=int, default=5, help="seconds of warm-up before each window")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append the results as JSON lines")
    parser.add_argument(
        "--litserve-args", default="", help='options of peers/litserve_app.py, for example "--fast-queue "'
    )
    servers.add_options(parser)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> None:
    wrk.require()
    data = datasets.load(options.dataset)
    chosen = ("ours_args", "customers", "litserve_args")
    configured = {name: getattr(options, name) for name in chosen}
    label = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "cores": os.cpu_count(), **configured}

    def keep(row: Row) -> None:
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**label, "data": data.name, **row}) + "\n")

    print(f"{os.cpu_count()} cores, {platform.platform()}; {data.describe()}; {configured}", flush=True)
    with TemporaryDirectory(prefix="bankllm-serving-") as folder:
        plan = Plan(options, data.test.texts, Path(folder), keep)
        if {"peers", "ours"} & set(options.only):
            take_turns(plan)
        if "idle" in options.only:
            idle(plan)


def main() -> None:
    try:
        run(parse())
    except BankLLMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
