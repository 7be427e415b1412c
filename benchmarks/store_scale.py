"""The embedded store at growing sizes: load rate, first and later searches, memory and file size.

python benchmarks/store_scale.py [--sizes 1000 15000 100000 1000000]

Random unit vectors with fixed seeds, each size in a separate process. "concurrent" is the search time of a customer
with 200 rows while another thread searches all rows without a pause. `PYTHONPATH` selects the package of another
checkout.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import psutil

from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore

DIM = 384
EMBEDDER = "benchmark@0"
BATCH = 10_000
CACHE_BYTES = 8 * 2**30


def rows(count: int, seed: int = 0) -> Iterator[list[Row]]:
    """Yield batches of rows as the service creates them: random ids, a short text and metadata."""
    generator, ids = np.random.default_rng(seed), random.Random(seed)
    for start in range(0, count, BATCH):
        vectors = generator.normal(size=(min(BATCH, count - start), DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        yield [
            Row(f"{ids.getrandbits(128):032x}", f"message {start + i}, my card has not arrived", vector, METADATA)
            for i, vector in enumerate(vectors)
        ]


METADATA = {"assistant_response": "I have ordered a new one; it takes five days.", "intent": "card_arrival"}


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def spread(times: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(times, [50, 95])
    return {"p50": p50, "p95": p95, "max": max(times)}


def open_store(path: Path) -> SQLiteStore:
    return SQLiteStore(path, DIM, EMBEDDER, cache_bytes=CACHE_BYTES)


def measure_size(path: Path, size: int) -> dict[str, Any]:
    store, seconds = open_store(path), 0.0
    for batch in rows(size):
        seconds += milliseconds(lambda batch=batch: store.upsert("all", batch)) / 1000
    store.upsert("CUST001", next(rows(200, seed=1)))
    store.close()
    store = open_store(path)
    before = psutil.Process().memory_info().rss
    queries = np.random.default_rng(2).normal(size=(310, DIM))
    first = milliseconds(lambda: store.search("all", queries[0], 10))
    held = psutil.Process().memory_info().rss - before
    count = 300 if size <= 100_000 else 60
    later = [milliseconds(lambda query=query: store.search("all", query, 10)) for query in queries[10 : 10 + count]]
    customer_times = [milliseconds(lambda query=query: store.search("CUST001", query, 10)) for query in queries[:300]]
    line = {
        "rows": size,
        "load/s": size / seconds,
        "file MiB": path.stat().st_size / 2**20,
        "first ms": first,
        "held MiB": held / 2**20,
        "search": spread(later),
        "customer": spread(customer_times),
        "concurrent": concurrent(store, queries),
    }
    store.close()
    return line


def concurrent(store: SQLiteStore, queries: np.ndarray, seconds: float = 4) -> dict[str, float]:
    """Measure a customer's searches while another thread searches all rows without a pause."""
    done = Event()

    def search_all() -> None:
        while not done.is_set():
            store.search("all", queries[0], 10)

    times, until = [], time.monotonic() + seconds
    with ThreadPoolExecutor(1) as pool:
        pool.submit(search_all)
        while time.monotonic() < until:
            times.append(milliseconds(lambda: store.search("CUST001", queries[len(times) % 300], 10)))
            time.sleep(0.005)
        done.set()
    return spread(times)


def show(values: dict[str, Any]) -> str:
    """Format one line of `name value` pairs, with times as p50/p95/max."""
    parts = []
    for name, value in values.items():
        if isinstance(value, dict):
            value = "/".join(f"{part:.2f}" for part in value.values()) + " ms"
        parts.append(f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}")
    return " | ".join(parts)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sizes", type=int, nargs="*", default=[1000, 15_000, 100_000, 1_000_000])
    options.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.file:
        print(show(measure_size(chosen.file, *chosen.sizes)), flush=True)
        return
    print("p50/p95/max in ms", flush=True)
    for size in chosen.sizes:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "scale.sqlite")
            subprocess.run([sys.executable, __file__, "--sizes", str(size), "--file", str(file)], check=True)


if __name__ == "__main__":
    main()
