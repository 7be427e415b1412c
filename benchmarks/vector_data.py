"""Vectors of the vector benchmarks: real messages embedded by MiniLM, and noisy copies of them.

Beyond the number of real texts, a vector is a real one plus noise. Its distance from the real one is that of two
wordings of the same question.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bankllm.datasets import load
from bankllm.lab.vector_corpus import gather
from bankllm.model import base_models
from bankllm.settings import project_root
from bankllm.vectors.embedder import Embedder

CACHE = project_root() / "build" / "vectors"
QUERIES = 500
"""Number of texts of the data set's test split that are used as queries and are not stored."""
NOISE = 0.3
"""Length of the noise that is added to a unit vector; the cosine with the real vector is about 0.96."""
CUSTOMER_ROWS = 200
TOP_K = 10
TIE = 1e-6
"""Scores this close count as equal: libraries round differently, and texts that differ only in case have the same
embedding."""


class Customer(NamedTuple):
    name: str
    ids: np.ndarray
    """(n,) int64, the ids of the customer's rows. FAISS stores no names, so it filters by ids."""


class Rows(NamedTuple):
    """Rows to insert."""

    ids: np.ndarray
    """(n,) int64."""
    vectors: np.ndarray
    """(n, 384) float32 of unit length."""
    texts: list[str]
    customers: list[str]


class Sample:
    """Stored vectors, their texts and the queries, in a folder that `prepare` has filled."""

    def __init__(self, folder: Path) -> None:
        self.vectors: np.ndarray = np.load(folder / "vectors.npy", mmap_mode="r")
        """(size, 384) float32 of unit length, memory-mapped; the id of a row is its position."""
        self.queries: np.ndarray = np.load(folder / "queries.npy")
        """(QUERIES, 384) float32 of unit length."""
        self.folder, self.size = folder, len(self.vectors)
        count = max(1, self.size // CUSTOMER_ROWS)
        self.customers = [Customer(f"CUST{n:05d}", np.arange(n, self.size, count)) for n in range(count)]
        """The rows are dealt to the customers in turn, about `CUSTOMER_ROWS` each."""

    @cached_property
    def texts(self) -> list[str]:
        return json.loads((self.folder / "texts.json").read_text(encoding="utf-8"))

    def rows(self, ids: np.ndarray) -> Rows:
        return Rows(ids, self.vectors[ids], [self.texts[i] for i in ids], [self.owner(i) for i in ids])

    def owner(self, row: int) -> str:
        return self.customers[row % len(self.customers)].name


def prepare(size: int) -> Path:
    """Print a description of the sample of `size` rows, and return its folder. It is filled if it does not exist."""
    data = load("auto")
    # The test texts come last, because they are the queries.
    gathered = sorted(gather(data), key=lambda text: (text.dataset, text.split) == (data.name, "test"))
    texts = [text.text for text in gathered]
    base = base_models.resolve("minilm")
    key = hashlib.sha256("\0".join([base.sha256 or base.name, *texts]).encode()).hexdigest()[:12]
    real, folder = CACHE / f"real-{key}.npy", CACHE / f"{size}-{key}"
    if not real.exists():
        print(f"embedding {len(texts):,} texts once, into {real.name}", flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        np.save(real, Embedder("minilm").encode(texts))
    vectors = np.load(real)
    stored, queries = vectors[:-QUERIES], vectors[-QUERIES:]
    if not (folder / "vectors.npy").exists():
        folder.mkdir(exist_ok=True)
        (folder / "texts.json").write_text(json.dumps([texts[i % len(stored)] for i in range(size)]), encoding="utf-8")
        np.save(folder / "queries.npy", queries)
        np.save(folder / "writing.npy", grow(stored, size))
        (folder / "writing.npy").replace(folder / "vectors.npy")  # last, so that a folder with this file is complete
    noisy = f"{size - len(stored):,} of them a real one plus noise of length {NOISE}, renormalised"
    made_of = noisy if size > len(stored) else "all real"
    print(f"\n{size:,} MiniLM vectors, {made_of}; {QUERIES} queries, none stored\n", flush=True)
    return folder


def grow(real: np.ndarray, size: int) -> np.ndarray:
    """Extend (n, dim) unit vectors to (size, dim): first the real ones, then noisy copies of them in order."""
    grown = np.resize(real, (size, real.shape[1]))
    copies = grown[len(real) :]
    copies += NOISE / real.shape[1] ** 0.5 * np.random.default_rng(0).standard_normal(copies.shape, np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    return grown


def recall(scores: np.ndarray, rows: np.ndarray, found: Sequence[int], top_k: int = TOP_K) -> float:
    """Return the share of the exact `top_k` of `rows` in `found`. A row as near as the last exact one also counts.

    `scores` are those of all rows of the sample.
    """
    wanted = min(top_k, len(rows))
    threshold = np.partition(scores[rows], -wanted)[-wanted] - TIE
    return float(np.count_nonzero(scores[list(dict.fromkeys(found))] >= threshold)) / wanted
