"""The embedder of `open_service` against sentence-transformers in torch, alternating, in one run of about 3 minutes.

    python benchmarks/embedding.py [--texts 15000] [--queries 300]

Embedding: milliseconds of one new text, and texts per second in bulk. Store: messages per second through
`open_service`, one call each, next to bare SQLite commits of rows of that size. Search: a new question over all texts.
"""

import argparse
import sqlite3
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from bankllm import datasets
from bankllm.model import base_models
from bankllm.model.export import cached_export
from bankllm.model.onnx_classifier import OnnxClassifier
from bankllm.settings import get_settings
from bankllm.util.processes import usable_cores
from bankllm.vectors.embedder import Embedder, encoder
from bankllm.vectors.service import open_service
from bankllm.vectors.sqlite.file import wal_is_safe

ROUNDS = 3
"""Rounds of the bulk and store measurements, after which the medians are printed."""


def embedders() -> dict[str, Embedder]:
    """By name: the former default, ours, and ours with all cores in one pass."""
    base = base_models.resolve()
    torch_model = SentenceTransformer(base.location, device="cpu")
    many = OnnxClassifier.load(cached_export(Path(base.location), get_settings()), threads=usable_cores())

    def in_torch(texts: list[str]) -> np.ndarray:
        return np.asarray(torch_model.encode(texts, normalize_embeddings=True, show_progress_bar=False))

    return {
        "sentence-transformers": Embedder(encode=in_torch, cache_bytes=0),
        "graph (default)": Embedder(cache_bytes=0),
        f"graph, {usable_cores()} threads a pass": Embedder(encode=encoder(many), cache_bytes=0),
    }


def per_second(call: Callable[[str], object], texts: Iterable[str]) -> float:
    began, count = time.perf_counter(), 0
    for text in texts:
        call(text)
        count += 1
    return count / (time.perf_counter() - began)


def milliseconds(call: Callable[[str], object], text: str) -> float:
    began = time.perf_counter()
    call(text)
    return 1000 * (time.perf_counter() - began)


def bare_commits(path: Path) -> Callable[[str], object]:
    """A commit of one row of the size of a stored message, with the journal of the store."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA journal_mode = {'wal' if wal_is_safe(sqlite3.sqlite_version_info) else 'truncate'}")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE rows (text TEXT, vector BLOB)")
    return lambda text: db.execute("INSERT INTO rows VALUES (?, ?)", (text, bytes(4 * 384)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texts", type=int, default=15_000)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    data = datasets.load()
    order = np.random.default_rng(0).permutation([*data.train.texts, *data.test.texts])
    queries, texts = order[: options.queries].tolist(), order[options.queries :][: options.texts].tolist()
    print(f"{data.name}, {len(texts):,} texts, {len(queries)} queries, {usable_cores()} cores")
    found = embedders()
    for embedder in found.values():
        embedder.encode(queries[:20])

    single: dict[str, list[float]] = defaultdict(list)
    for query in queries:
        for name, embedder in found.items():
            single[name].append(milliseconds(lambda text, one=embedder: one.encode([text]), query))
    bulk: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for name, embedder in found.items():
            began = time.perf_counter()
            embedder.encode(texts[:600])
            bulk[name].append(600 / (time.perf_counter() - began))
    for name in found:
        p50, p95 = np.percentile(single[name], [50, 95])
        print(f"{name:<26} one text p50 {p50:5.1f} ms, p95 {p95:5.1f} ms; bulk {np.median(bulk[name]):5.0f} texts/s")

    vectors = found["graph (default)"].encode(texts, progress=True)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        services = {
            name: open_service(Path(folder, f"{n}.db"), embedder=one) for n, (name, one) in enumerate(found.items())
        }
        bare = bare_commits(Path(folder, "bare.db"))
        stores: dict[str, list[float]] = defaultdict(list)
        for round_ in range(ROUNDS):
            some = [f"{text} {round_}" for text in queries[:100]]
            stores["bare SQLite commits"].append(per_second(bare, some))
            for name, service in services.items():
                customer = service.for_user("CUST001")
                stores[name].append(per_second(lambda text, one=customer: one.store(text, "", "intent"), some))
        for name, rates in stores.items():
            share = np.median(np.divide(rates, stores["bare SQLite commits"]))
            print(f"{name:<26} {np.median(rates):5.0f} stored/s, {share:.2f} x the bare commits of the same round")
        searches: dict[str, list[float]] = defaultdict(list)
        for service in services.values():
            service.collection("texts").add(texts, vectors=vectors)
        for query in queries:
            for name, service in services.items():
                search = service.collection("texts").search
                searches[name].append(milliseconds(lambda text, one=search: one(text, 5), query))
        for name, found_ms in searches.items():
            p50, p95 = np.percentile(found_ms[1:], [50, 95])  # the first search loads the vectors
            print(f"{name:<26} search over {len(texts):,} texts p50 {p50:5.1f} ms, p95 {p95:5.1f} ms")
        for service in services.values():
            service.close()


if __name__ == "__main__":
    main()
