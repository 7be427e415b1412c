"""How a memory behaves as it grows: random unit vectors, since real texts stop at some fifteen thousand.

grow(folder, (1_000, 15_000, 100_000))

One file grows from size to size. Each time a process of its own opens it and searches, so that its memory is the
store's alone: `python -m bankllm.lab.vector_growth FILE ROWS SEARCHES` prints one JSON row a line.
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from bankllm.errors import RunError
from bankllm.util import processes
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore

DIM = 384
"""As all-MiniLM-L6-v2 has it."""
EMBEDDER = "random"
EVERYTHING, CUSTOMER = "everything", "customer"
CUSTOMER_ROWS, CUSTOMER_SEED = 200, 77
BATCH = 5_000
TOP_K = 10
TIMEOUT_S = 3600


def grow(
    folder: Path, sizes: Sequence[int], searches: int = 200
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Fill a file in `folder` and search it at each size, smallest first. Returns two lists of rows:

    - one a search: `rows`, `scope` (`all` rows or one `customer` of 200), `first` (whether the process had searched
      there before; True once a scope), `search_ms`;
    - one a size: `rows`, `file_bytes`, `memory_bytes` (resident, above the level before the file was opened),
      `vectors` and `seconds` of storing what came since the size before (one customer's rows with the first).

    Raises `RunError` where the searching process fails.
    """
    path = folder / "growth.sqlite"
    found: list[dict[str, object]] = []
    measured: list[dict[str, object]] = []
    for before, size in pairwise((0, *sorted(sizes))):
        began = time.perf_counter()
        _fill(path, before, size)
        seconds = time.perf_counter() - began
        searched, memory_bytes = _search_in_child(path, size, searches)
        found += searched
        measured.append(
            {
                "rows": size,
                "file_bytes": path.stat().st_size,
                "memory_bytes": memory_bytes,
                "vectors": size - before + (0 if before else CUSTOMER_ROWS),
                "seconds": seconds,
            }
        )
    return found, measured


def search_all(path: Path, rows: int, searches: int) -> Iterator[dict[str, object]]:
    """Search a file that `grow` filled, all rows first and then the customer's; the last row is the memory."""
    import psutil

    process = psutil.Process()
    level = process.memory_info().rss
    queries = _unit_vectors(np.random.default_rng(rows), searches + 1)
    store = SQLiteStore(path, DIM, EMBEDDER)
    for scope, namespace in (("all", EVERYTHING), ("customer", CUSTOMER)):
        for number, query in enumerate(queries):
            began = time.perf_counter()
            store.search(namespace, query, TOP_K)
            taken = 1000 * (time.perf_counter() - began)
            yield {"rows": rows, "scope": scope, "first": number == 0, "search_ms": taken}
        if scope == "all":
            memory_bytes = process.memory_info().rss - level
    store.close()
    yield {"memory_bytes": memory_bytes}


def _fill(path: Path, before: int, size: int) -> None:
    store = SQLiteStore(path, DIM, EMBEDDER)
    try:
        if not before:
            store.upsert(CUSTOMER, _rows("c", np.random.default_rng(CUSTOMER_SEED), 0, CUSTOMER_ROWS))
        for start in range(before, size, BATCH):
            stop = min(start + BATCH, size)
            store.upsert(EVERYTHING, _rows("m", np.random.default_rng(start), start, stop))
    finally:
        store.close()


def _rows(prefix: str, generator: np.random.Generator, start: int, stop: int) -> list[Row]:
    vectors = _unit_vectors(generator, stop - start)
    about = {"intent": "card_arrival"}
    return [Row(f"{prefix}{start + i}", f"message {start + i}", vector, about) for i, vector in enumerate(vectors)]


def _unit_vectors(generator: np.random.Generator, count: int) -> np.ndarray:
    """(count, DIM) float32."""
    vectors = generator.standard_normal((count, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _search_in_child(path: Path, rows: int, searches: int) -> tuple[list[dict[str, object]], int]:
    log = path.parent / f"search-{rows}.jsonl"
    command = [sys.executable, "-m", "bankllm.lab.vector_growth", str(path), str(rows), str(searches)]
    done = processes.run(command, log, TIMEOUT_S)
    if done.returncode != 0:
        raise RunError(
            f"Searching {rows:,} rows failed (exit code {done.returncode}). Its last words:\n{processes.tail(log)}"
        )
    *found, last = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return found, last["memory_bytes"]


if __name__ == "__main__":
    for row in search_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
        sys.stdout.write(json.dumps(row) + "\n")
