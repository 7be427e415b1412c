"""An `Embedder` without a model: tokens are case-insensitive words, and vectors are generated from their hashes."""

import hashlib
from collections.abc import Sequence

import numpy as np

from bankllm.vectors.embedder import Embedder

DIM = 16


def tokens(texts: Sequence[str]) -> list[list[int]]:
    words = [text.casefold().split() for text in texts]
    return [[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little") for word in row] for row in words]


def vectors(texts: Sequence[str]) -> np.ndarray:
    rows = np.stack([np.random.default_rng(row).normal(size=DIM) for row in tokens(texts)])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fake_embedder() -> Embedder:
    """Return a new embedder with an empty cache and zero counts, as in a new process."""
    return Embedder(encode=vectors)
