"""The approximate index against exact search: recall@10 and milliseconds per search through the store.

    python benchmarks/approximate_search.py [--rows 200000] [--queries 500]

The vectors are synthetic: 2,000 random centres with noise, 384 dimensions, of unit length. The queries are drawn in the
same way, and none is stored. One thread builds the index; until it is ready, the searches are exact.
"""

import argparse
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.neighbor_graph import THREAD
from bankllm.vectors.sqlite.store import SQLiteStore

DIM, CENTRES, NOISE, BATCH = 384, 2000, 1.2, 10_000
CACHE_BYTES = 8 * 2**30


def clustered(count: int, seed: int) -> np.ndarray:
    """(count, DIM) unit vectors: a random centre plus noise of length `NOISE`."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, DIM), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    draw = np.random.default_rng(seed)
    vectors = centres[draw.integers(CENTRES, size=count)]
    vectors += NOISE / DIM**0.5 * draw.standard_normal(vectors.shape, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def milliseconds(store: SQLiteStore, query: np.ndarray) -> tuple[float, set[str]]:
    began = time.perf_counter()
    found = store.search("all", query, 10)
    return 1000 * (time.perf_counter() - began), {match.id for match in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--queries", type=int, default=500)
    options = parser.parse_args()
    vectors, queries = clustered(options.rows, 1), clustered(options.queries, 2)
    print(f"{options.rows:,} vectors around {CENTRES:,} centres, {options.queries} queries", flush=True)

    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder, "memory.sqlite")
        with closing(SQLiteStore(path, DIM, "benchmark", CACHE_BYTES)) as exact:
            for start in range(0, options.rows, BATCH):
                part = enumerate(vectors[start : start + BATCH], start)
                exact.upsert("all", [Row(f"m{number}", "my card has not arrived", vector) for number, vector in part])
            del vectors
            with closing(SQLiteStore(path, DIM, "benchmark", CACHE_BYTES, approximate_above=1)) as approximate:
                exact.search("all", queries[0], 10)
                began = time.perf_counter()
                approximate.search("all", queries[0], 10)
                for thread in threading.enumerate():
                    if thread.name == THREAD:
                        thread.join()
                print(f"approximate {time.perf_counter() - began:.0f} s after the first search", flush=True)
                index_mib = (approximate.cached_bytes - exact.cached_bytes) / 2**20
                print(f"memory: exact {exact.cached_bytes / 2**20:.0f} MiB, the index {index_mib:.0f} MiB more")
                times: dict[str, list[float]] = {"exact": [], "approximate": []}
                recalls = []
                for query in queries:
                    exact_ms, expected = milliseconds(exact, query)
                    approximate_ms, found = milliseconds(approximate, query)
                    times["exact"].append(exact_ms)
                    times["approximate"].append(approximate_ms)
                    recalls.append(len(expected & found) / 10)
        for name, found_ms in times.items():
            p50, p95 = np.percentile(found_ms, [50, 95])
            print(f"{name:<12} p50 {p50:6.2f} ms, p95 {p95:6.2f} ms")
        print(f"recall@10 {np.mean(recalls):.4f}")


if __name__ == "__main__":
    main()
