"""Our vector store compared with FAISS, Chroma and LanceDB: the same real vectors, each in separate processes.

python benchmarks/vector_peers.py [--sizes 10000 100000] [--only ours faiss]

One thread searches for the top 10 in a closed loop. A durable insert survives SIGKILL, which is tested; FAISS rewrites
its file for each insert. A customer has about 200 rows; FAISS stores no names or texts and receives the ids of a
customer's rows as a filter.
"""

import argparse
import json
import os
import platform
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from vector_data import QUERIES, TOP_K, Customer, Rows, Sample, prepare, recall
from vector_stores import INSTALL, STORES, Store

from bankllm.errors import BankLLMError, StoreError

INSERTS, INSERTS_S = 300, 10
"""Most single inserts, and the seconds after which no further one starts."""
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "LANCE_CPU_THREADS")
WHOLE, DIVIDED = "", " per customer"
"""The layouts: one partition, or one partition per customer."""
EVERYTHING = "all"
"""The partition in the layout `WHOLE`."""


def fill(store: Store, sample: Sample, layout: str) -> dict[str, Any]:
    """Insert all rows."""
    parts = sample.customers if layout == DIVIDED else [Customer(EVERYTHING, np.arange(sample.size))]
    rows = {part.name: sample.rows(part.ids) for part in parts}
    began = time.perf_counter()
    for partition in rows:
        store.insert(partition, rows[partition])
    return {"seconds": time.perf_counter() - began}


def ask(store: Store, sample: Sample, layout: str) -> dict[str, Any]:
    """Search over all rows, and over the rows of random customers: p50 and p95 in ms and the mean recall of each.

    Raises `StoreError` if a search returns a row of another customer.
    """
    everything, customers = np.arange(sample.size), random.Random(0).choices(sample.customers, k=QUERIES)
    scopes: dict[str, list[tuple[np.ndarray, str, Customer | None]]] = {}
    if layout == DIVIDED:
        scopes["one customer"] = [(customer.ids, customer.name, None) for customer in customers]
    else:
        scopes["all"] = [(everything, EVERYTHING, None)] * QUERIES
        if store.filters:
            scopes["one customer"] = [(customer.ids, EVERYTHING, customer) for customer in customers]
    found: dict[str, list[tuple[float, list[int]]]] = {}
    for _ in range(2):  # the first round loads the partitions; only the second one counts
        for kind, scope in scopes.items():
            found[kind] = [
                timed(store, query, *where) for query, (_, *where) in zip(sample.queries, scope, strict=True)
            ]
    result: dict[str, Any] = {"rss_bytes": psutil.Process().memory_info().rss}
    scores = sample.queries @ sample.vectors.T
    for kind, searches in found.items():
        shares = []
        for score, (expected, *_), (_, ids) in zip(scores, scopes[kind], searches, strict=True):
            if not np.isin(ids, expected).all():
                raise StoreError(f"A search returned rows of other customers; expected only {len(expected)} rows.")
            shares.append(recall(score, expected, ids))
        result[kind] = [*np.percentile([ms for ms, _ in searches], [50, 95]), np.mean(shares)]
    return result


def timed(store: Store, query: np.ndarray, partition: str, customer: Customer | None) -> tuple[float, list[int]]:
    began = time.perf_counter()
    ids = store.search(partition, query, TOP_K, customer)
    return 1000 * (time.perf_counter() - began), ids


def insert(store: Store, sample: Sample, layout: str) -> dict[str, Any]:
    """Insert single rows: the ms of each."""
    took: list[float] = []
    until = time.monotonic() + INSERTS_S
    while len(took) < INSERTS and time.monotonic() < until:
        number = len(took)
        owner = sample.owner(number)
        ids, vectors = np.array([sample.size + number]), sample.queries[number : number + 1]
        row = Rows(ids, vectors, [f"inserted {number}"], [owner])
        began = time.perf_counter()
        store.insert(owner if layout == DIVIDED else EVERYTHING, row)
        took.append(1000 * (time.perf_counter() - began))
    return {"ms": took}


def count(store: Store, sample: Sample, layout: str) -> dict[str, Any]:
    return {"rows": store.count()}


PHASES = {phase.__name__: phase for phase in (fill, ask, insert, count)}


def run_here(phase: str, name: str, layout: str, sample: str, folder: str) -> None:
    """Run a phase in this process and print its result as JSON; then kill the process if the phase is `insert`."""
    print(json.dumps(PHASES[phase](STORES[name](Path(folder)), Sample(Path(sample)), layout)), flush=True)
    if phase == "insert":
        os.kill(os.getpid(), signal.SIGKILL)  # nothing is written during a normal exit


def run(phase: str, *arguments: str) -> dict[str, Any]:
    """Run a phase in a separate process with one thread. Raises `StoreError` if it fails."""
    command = [sys.executable, __file__, "--phase", phase, *arguments]
    environment = os.environ | dict.fromkeys(ONE_THREAD, "1")
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    expected = -signal.SIGKILL if phase == "insert" else 0
    if finished.returncode != expected or not finished.stdout:
        raise StoreError(
            f"{arguments[0]}: the phase {phase} ended with exit code {finished.returncode}, expected {expected}. Its "
            f"last error line: {(finished.stderr.strip() or '(none)').splitlines()[-1]}"
        )
    return json.loads(finished.stdout.splitlines()[-1])


def measure(name: str, layout: str, sample: Sample, folder: Path) -> dict[str, str]:
    """Measure a store in an empty folder: column of the table → text."""
    store, arguments = STORES[name], (name, layout, str(sample.folder), str(folder))
    load_s = run("fill", *arguments)["seconds"]
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    found, inserts = run("ask", *arguments), run("insert", *arguments)["ms"]
    lost = max(0, sample.size + len(inserts) - run("count", *arguments)["rows"])
    searches = {
        f"{kind}: {what}": f"{value:.4f}" if value is not None else "—"
        for kind in ("all", "one customer")
        for what, value in zip(("p50, ms", "p95, ms", "recall@10"), found.get(kind, [None] * 3), strict=True)
    }
    return {
        "store": f"{store.title} {store.version()}, one {store.partition}{layout}",
        "load, rows/s": f"{sample.size / load_s:,.0f}",
        "durable insert p50, ms": f"{np.median(inserts):.3f} ({store.insert_is})",
        "inserts/s": f"{1000 / np.mean(inserts):,.0f}",
        **searches,
        "disk, MiB": f"{disk / 2**20:.1f}",
        "memory, MiB": f"{found['rss_bytes'] / 2**20:.0f}",
        "lost by kill -9": f"{lost} of {len(inserts)}",
    }


def compare(size: int, names: Sequence[str]) -> None:
    """Measure the stores with `size` rows, and print a Markdown table."""
    sample, lines = Sample(prepare(size)), list[dict[str, str]]()
    for name in names:
        if STORES[name].version() is None:
            print(f"{STORES[name].title} is left out: not installed; run: {INSTALL}", flush=True)
            continue
        for layout in (DIVIDED, WHOLE) if STORES[name].divides else (WHOLE,):
            with TemporaryDirectory(prefix="bankllm-vectors-") as folder:
                lines.append(measure(name, layout, sample, Path(folder)))
    if lines:
        headings = list(lines[0])
        table = [headings, ["---", *["---:"] * (len(headings) - 1)], *(line.values() for line in lines)]
        print("\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in table), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000], help="numbers of rows")
    parser.add_argument("--only", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--phase", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.phase:
        run_here(*options.phase)
        return
    print(f"{os.cpu_count()} cores, {platform.platform()}, SQLite {sqlite3.sqlite_version}", flush=True)
    try:
        for size in options.sizes:
            compare(size, options.only)
    except BankLLMError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
