"""An `Embedder` without a model: words are its tokens, whatever their case, and vectors come from a hash of them."""

import hashlib
from collections.abc import Sequence

import numpy as np

from bankllm.vectors.embedder import Embedder
from bankllm.vectors.embedding_cache import SharedCache

DIM = 16


def tokens(texts: Sequence[str]) -> list[list[int]]:
    words = [text.casefold().split() for text in texts]
    return [[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little") for word in row] for row in words]


def vectors(texts: Sequence[str]) -> np.ndarray:
    rows = np.stack([np.random.default_rng(row).normal(size=DIM) for row in tokens(texts)])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def fake_embedder(shared: SharedCache | None = None) -> Embedder:
    """One with a memory and counts of its own, as in a process of its own."""
    return Embedder(encode=vectors, tokenise=tokens, shared=shared)
