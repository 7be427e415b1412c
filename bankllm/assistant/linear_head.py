"""Linear heads on the encoder's embeddings and a message's words: they choose tools and find messages that need care.

A script in `benchmarks/` trains each head and writes its file.
"""

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from bankllm.errors import ModelError

BUCKETS = 1024
"""Hash buckets for words and pairs of words, unless a head needs more."""


@dataclass(frozen=True)
class LinearHead:
    weight: np.ndarray
    """(classes, features) float32."""
    bias: np.ndarray
    """(classes,) float32."""
    metadata: Mapping[str, str]
    """`labels` (JSON), the encoder, and the hash of the training data."""

    @classmethod
    def load(cls, path: Path, labels: Sequence[str], command: str) -> Self:
        """Read a head. Raises `ModelError`, which names the training `command`, for a damaged file or other labels."""
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata()
                weight, bias = (file.get_tensor(name).astype(np.float32) for name in ("weight", "bias"))
        except Exception as error:  # noqa: BLE001 (safetensors raises its own type for a damaged file)
            raise ModelError(f"The head in {path} cannot be read ({error}). Run {command}.") from None
        if json.loads(metadata["labels"]) != list(labels):
            raise ModelError(f"The head in {path} knows other labels. Run {command}.")
        return cls(weight, bias, metadata)

    def save(self, path: Path) -> None:
        """Write the head with its weights in half precision."""
        weight = np.ascontiguousarray(self.weight, dtype=np.float16)  # safetensors writes an array as it lies in memory
        save_file({"weight": weight, "bias": self.bias}, path, dict(self.metadata))

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """(n, features) → (n, classes) probabilities."""
        logits = features @ self.weight.T + self.bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def hashed_words(text: str, buckets: int = BUCKETS) -> np.ndarray:
    """Hash the words, pairs of words and question marks of a text to a vector of `buckets` and of length 1."""
    words = ["^", *re.findall(r"[\w']+|[?!]", text.lower()), "$"]
    vector = np.zeros(buckets, dtype=np.float32)
    for token in [*words, *map(" ".join, pairwise(words))]:
        vector[zlib.crc32(token.encode()) % buckets] = 1
    return vector / np.float32(np.sqrt(vector.sum()))
