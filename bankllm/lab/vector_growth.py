"""Search time and memory of a vector store as it grows, with random unit vectors (there are about 15,000 real texts).

    grow(folder, (1_000, 15_000, 100_000))

One file grows from size to size. At each size a separate process opens the file and searches it, so that the memory of
the process is that of the store: `python -m bankllm.lab.vector_growth FILE ROWS SEARCHES` prints one JSON row per line.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil

from bankllm.errors import RunError
from bankllm.util import processes
from bankllm.vectors.rows import Row
from bankllm.vectors.sqlite.store import SQLiteStore

Rows = list[dict[str, object]]
DIM = 384
EMBEDDER = "random"
EVERYTHING, CUSTOMER = "all", "customer"
CUSTOMER_ROWS, CUSTOMER_SEED = 200, 77
BATCH = 5_000
TOP_K = 10
TIMEOUT_S = 3600


def grow(folder: Path, sizes: Sequence[int], searches: int = 200) -> tuple[Rows, Rows]:
    """Fill a file in `folder` and search it at each size, smallest first. Returns two lists of rows:

    - per search: `rows`, `scope` (`all` rows, or one `customer` with 200 rows), `first` (in this scope), `search_ms`;
    - per size: `rows`, `file_bytes`, `memory_bytes` (resident, above the level before the file was opened), and
      `vectors` and `seconds`: what was stored since the previous size, and the time for it.

    Raises `RunError` if the search process fails.
    """
    path = folder / "growth.sqlite"
    search_rows: Rows = []
    size_rows: Rows = []
    for before, size in pairwise((0, *sorted(sizes))):
        began = time.perf_counter()
        fill(path, before, size)
        seconds = time.perf_counter() - began
        log = folder / f"search-{size}.jsonl"
        command = [sys.executable, "-m", "bankllm.lab.vector_growth", str(path), str(size), str(searches)]
        done = processes.run(command, log, TIMEOUT_S)
        if done.returncode != 0:
            end = f"The end of the output:\n{processes.tail(log)}"
            raise RunError(f"Searching {size:,} rows failed (exit code {done.returncode}). {end}")
        *searched, last = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        search_rows += searched
        stored = {"vectors": size - before + (0 if before else CUSTOMER_ROWS), "seconds": seconds}
        size_rows.append({"rows": size, "file_bytes": path.stat().st_size, **last, **stored})
    return search_rows, size_rows


def search_all(path: Path, rows: int, searches: int) -> Iterator[dict[str, object]]:
    """Search a file that `grow` filled: all rows, then those of the customer. The last item is the memory in bytes."""
    process = psutil.Process()
    level = process.memory_info().rss
    queries = _unit_vectors(np.random.default_rng(rows), searches + 1)
    store = SQLiteStore(path, DIM, EMBEDDER)
    for scope in (EVERYTHING, CUSTOMER):
        for number, query in enumerate(queries):
            began = time.perf_counter()
            store.search(scope, query, TOP_K)
            search_ms = 1000 * (time.perf_counter() - began)
            yield {"rows": rows, "scope": scope, "first": number == 0, "search_ms": search_ms}
        if scope == EVERYTHING:
            memory_bytes = process.memory_info().rss - level
    store.close()
    yield {"memory_bytes": memory_bytes}


def fill(path: Path, before: int, size: int) -> None:
    """Add rows to the file, from the number `before` to `size`."""
    with contextlib.closing(SQLiteStore(path, DIM, EMBEDDER)) as store:
        if not before:
            store.upsert(CUSTOMER, _rows("c", np.random.default_rng(CUSTOMER_SEED), 0, CUSTOMER_ROWS))
        for start in range(before, size, BATCH):
            rows = _rows("m", np.random.default_rng(start), start, min(start + BATCH, size))
            store.upsert(EVERYTHING, rows)


def _rows(prefix: str, generator: np.random.Generator, start: int, stop: int) -> list[Row]:
    vectors = _unit_vectors(generator, stop - start)
    about = {"intent": "card_arrival"}
    return [Row(f"{prefix}{start + i}", f"message {start + i}", vector, about) for i, vector in enumerate(vectors)]


def _unit_vectors(generator: np.random.Generator, count: int) -> np.ndarray:
    vectors = generator.standard_normal((count, DIM), dtype=np.float32)
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


if __name__ == "__main__":
    for row in search_all(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])):
        sys.stdout.write(json.dumps(row) + "\n")
