"""What a user of the library waits for: a new question over 15,000 texts, and stored messages per second.

python benchmarks/library_user.py [--texts 15000] [--questions 300] [--stores 300]

`open_service` with its default embedder on a file in --folder. The questions are new, so each one is embedded. A bare
SQLite commit writes the same rows with the same journal mode, one INSERT and one commit each; blocks of both alternate.
"""

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bankllm import datasets
from bankllm.vectors.namespaces import Message
from bankllm.vectors.rows import Row
from bankllm.vectors.service import VectorService, open_service
from bankllm.vectors.sqlite.file import wal_is_safe

BLOCK = 25
"""Messages per block of stores or bare commits."""
THREADS = 4
GROUP = 200
"""Messages per call of `store_many`."""


def milliseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def fill(service: VectorService, texts: list[str]) -> None:
    """Add the texts with random vectors, which take as long to search as real ones."""
    vectors = np.random.default_rng(0).normal(size=(len(texts), service.embedder.dim)).astype(np.float32)
    metadata = [{"intent": f"intent {number % 77}"} for number in range(len(texts))]
    service.collection("texts").add(texts, metadata, vectors)


def ask(service: VectorService, questions: list[str]) -> dict[str, float]:
    """Search with each question once per way of searching. Returns the p95 of each way, and prints its p50 and p95."""
    ways: dict[str, dict[str, Any]] = {
        "dense": {"mode": "dense"},
        "hybrid": {"mode": "hybrid"},
        "lexical": {"mode": "lexical"},
        "hybrid, filtered": {"where": {"intent": "intent 7"}},
    }
    p95 = {}
    for number, (name, way) in enumerate(ways.items()):
        times = []
        for question in questions:
            new = f"{question} {number}"
            times.append(
                milliseconds(lambda new=new, way=way: service.semantic_search(new, 10, collection="texts", **way))
            )
        print(f"{name:18} first {times[0]:7.1f} ms   p50 {np.percentile(times[1:], 50):6.2f} ms   ", end="")
        p95[name] = float(np.percentile(times[1:], 95))
        print(f"p95 {p95[name]:6.2f} ms", flush=True)
    return p95


def bare(path: Path) -> sqlite3.Connection:
    """Open a database with the columns of a store's rows and nothing else."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA journal_mode = {'wal' if wal_is_safe(sqlite3.sqlite_version_info) else 'truncate'}")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(
        "CREATE TABLE rows (seq INTEGER PRIMARY KEY, namespace TEXT, id TEXT, created_at TEXT, vector BLOB, text TEXT, "
        "metadata TEXT)"
    )
    return db


def commit(db: sqlite3.Connection, text: str, vector: np.ndarray) -> None:
    row = Row("0" * 32, text, vector)
    values = ("CUST001", row.id, row.created_at, vector.tobytes(), text, '{"assistant_response": "", "intent": ""}')
    db.execute("INSERT INTO rows (namespace, id, created_at, vector, text, metadata) VALUES (?, ?, ?, ?, ?, ?)", values)


def store(service: VectorService, folder: Path, messages: list[str]) -> tuple[float, float]:
    """Store messages one by one, and in groups. Returns the rate relative to bare commits, and rows per second."""
    memory, seconds = service.for_user("CUST001"), {"bare": 0.0, "store": 0.0, "store, vector known": 0.0}
    vectors = np.random.default_rng(1).normal(size=(len(messages), service.embedder.dim)).astype(np.float32)
    with closing(bare(folder / "bare.sqlite")) as db:
        for start in range(0, len(messages), BLOCK):
            for name in seconds:
                for number in range(start, min(start + BLOCK, len(messages))):
                    text, vector = f"{messages[number]} ({number})", vectors[number]
                    if name == "bare":
                        seconds[name] += milliseconds(lambda text=text, vector=vector: commit(db, text, vector)) / 1000
                    else:
                        known = vector if "known" in name else None
                        work = lambda text=text, known=known: memory.store(text, "", "", vector=known)  # noqa: E731
                        seconds[name] += milliseconds(work) / 1000
    for name, total in seconds.items():
        ratio = seconds["bare"] / total
        print(f"{name:20} {len(messages) / total:7.1f} a second   {ratio:.2f} x bare commits", flush=True)
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda text: memory.store(text, "", ""), [f"{text} in threads" for text in messages]))
    rate = len(messages) / (time.perf_counter() - began)
    ratio = rate * seconds["bare"] / len(messages)
    print(f"store in {THREADS} threads   {rate:7.1f} a second   {ratio:.2f} x bare commits", flush=True)
    turns = [Message(f"{messages[number % len(messages)]} {number}") for number in range(10 * GROUP)]
    known = np.random.default_rng(2).normal(size=(len(turns), service.embedder.dim)).astype(np.float32)
    began = time.perf_counter()
    for start in range(0, len(turns), GROUP):
        memory.store_many(turns[start : start + GROUP], vectors=known[start : start + GROUP])
    grouped = len(turns) / (time.perf_counter() - began)
    print(f"in groups of {GROUP}, vectors known  {grouped:7.0f} a second")
    return seconds["bare"] / seconds["store"], grouped


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--texts", type=int, default=15_000)
    options.add_argument("--questions", type=int, default=300)
    options.add_argument("--stores", type=int, default=300)
    options.add_argument("--folder", type=Path, help="Folder of the files; default: a temporary one.")
    chosen = options.parse_args()
    data = datasets.load("auto")
    known = [f"{data.train.texts[n % len(data.train.texts)]} {n}" for n in range(chosen.texts)]
    new = [data.test.texts[n % len(data.test.texts)] for n in range(max(chosen.questions, chosen.stores))]
    with (
        tempfile.TemporaryDirectory(dir=chosen.folder) as folder,
        open_service(Path(folder, "memory.sqlite")) as service,
    ):
        fill(service, known)
        print(f"{chosen.texts} texts of {data.name}, {service.embedder.model_id}")
        p95 = ask(service, new[: chosen.questions])
        ratio, grouped = store(service, Path(folder), new[: chosen.stores])
    sys.exit(p95["dense"] > 15 or p95["hybrid"] > 20 or ratio < 0.8 or grouped < 800)


if __name__ == "__main__":
    main()
