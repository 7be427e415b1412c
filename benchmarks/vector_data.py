"""Vectors of the vector benchmarks: real messages embedded by MiniLM, and noisy copies of them.

Beyond the number of real texts, a vector is a real one plus noise. Its distance from the real one is that of two
wordings of the same question.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Sample:
    """Stored vectors and queries in a folder, which the child processes read."""

    folder: Path
    real: int
    """Number of real rows, which come first; the others are noisy copies."""

    @property
    def vectors(self) -> np.ndarray:
        """(size, 384) float32 of unit length, memory-mapped."""
        return np.load(self.folder / "vectors.npy", mmap_mode="r")

    @property
    def queries(self) -> np.ndarray:
        """(QUERIES, 384) float32 of unit length."""
        return np.load(self.folder / "queries.npy")

    @property
    def texts(self) -> list[str]:
        return json.loads((self.folder / "texts.json").read_text(encoding="utf-8"))

    def describe(self) -> str:
        size = len(self.vectors)
        noisy = f", {size - self.real:,} of them a real one plus noise of length {NOISE}, renormalised"
        return f"{size:,} MiniLM vectors{noisy if size > self.real else ', all real'}; {QUERIES} queries, none stored"


def prepare(size: int | None, cache: Path = CACHE) -> Sample:
    """Return a sample of `size` rows (None: all real ones). It is written if it does not exist."""
    data = load("auto")
    # The test texts come last, because they are the queries.
    gathered = sorted(gather(data), key=lambda text: (text.dataset, text.split) == (data.name, "test"))
    texts = [text.text for text in gathered]
    base = base_models.resolve("minilm")
    key = hashlib.sha256("\0".join([base.sha256 or base.name, *texts]).encode()).hexdigest()[:12]
    vectors = _embed(texts, cache / f"real-{key}.npy")
    stored, queries = vectors[:-QUERIES], vectors[-QUERIES:]
    size = len(stored) if size is None else size
    folder = cache / f"{size}-{key}"
    if not (folder / "vectors.npy").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "texts.json").write_text(json.dumps([texts[i % len(stored)] for i in range(size)]), encoding="utf-8")
        np.save(folder / "queries.npy", queries)
        np.save(folder / "writing.npy", grow(stored, size))
        (folder / "writing.npy").replace(folder / "vectors.npy")  # last, so that a folder with this file is complete
    return Sample(folder, min(size, len(stored)))


def grow(real: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """Extend (n, dim) unit vectors to (size, dim): first the real ones, then noisy copies of them in order."""
    grown = np.empty((size, real.shape[1]), np.float32)
    grown[: len(real)] = real[:size]
    random = np.random.default_rng(seed)
    for start in range(len(real), size, len(real)):
        copies = real[: size - start]
        noisy = copies + NOISE / np.sqrt(real.shape[1]) * random.standard_normal(copies.shape, np.float32)
        grown[start : start + len(copies)] = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    return grown


def customers(size: int) -> dict[str, np.ndarray]:
    """Return customer → rows: the rows are dealt to the customers in turn, about `CUSTOMER_ROWS` each."""
    count = max(1, size // CUSTOMER_ROWS)
    return {f"CUST{number:05d}": np.arange(number, size, count) for number in range(count)}


def recall(vectors: np.ndarray, query: np.ndarray, found: Sequence[int], top_k: int = TOP_K) -> float:
    """Return the share of the exact `top_k` in `found`. A row as near as the last exact one also counts."""
    wanted = min(top_k, len(vectors))
    scores = vectors @ query
    threshold = np.partition(scores, -wanted)[-wanted] - TIE
    return float(np.count_nonzero(scores[list(dict.fromkeys(found))] >= threshold)) / wanted


def _embed(texts: list[str], path: Path) -> np.ndarray:
    if not path.exists():
        print(f"embedding {len(texts):,} texts once, into {path.name}", flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, Embedder("minilm").encode(texts))
    return np.load(path)
