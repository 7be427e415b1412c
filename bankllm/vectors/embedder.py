"""Text to unit vectors through sentence-transformers, with a cache in front and honest counts of its hits.

Embedder().encode(["my card is lost"])  # (1, 384) float32
"""

import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np

from bankllm import models
from bankllm.errors import ModelError, UsageError
from bankllm.settings import Settings

Encode = Callable[[list[str], bool], np.ndarray]
"""Texts, and whether to show a progress bar → (n, dim) unit vectors."""


class Embedder:
    """Encodes texts with a sentence-transformers model; a plain encoder folder is pooled by its mean.

    Safe to use from several threads. The cache maps the exact text to its vector and drops the least
    recently used ones beyond `cache_bytes`.
    """

    def __init__(
        self,
        base_model: str = "minilm",
        cache_bytes: int = 64 * 2**20,
        settings: Settings | None = None,
        *,
        encode: Encode | None = None,
        variant: str = "",
    ) -> None:
        """Load the model, or take what somebody else has loaded of it.

        `encode` makes the same unit vectors as sentence-transformers would; where it rounds, `variant` says how.
        Raises `ModelError` where the model is missing or damaged.
        """
        base = models.resolve(base_model, settings)
        name = f"{base.name}@{base.sha256[:12]}" if base.sha256 else base.name
        self.model_id = f"{name}+{variant}" if variant else name
        """Name and hash of the weights: vectors of different ids must never be mixed."""
        self._encode = encode or _sentence_transformer(base, models.device(settings))
        self.dim = int(self._encode(["warm up"], False).shape[1])
        self.cache_bytes = cache_bytes
        self.hits = 0
        """Texts answered without the model: from the cache, or repeated within one batch."""
        self.misses = 0
        """Texts that the model encoded."""
        self._cache: OrderedDict[str, np.ndarray] = OrderedDict()
        self._cached_bytes = 0
        self._cache_lock = Lock()
        # The tokenizer keeps padding state between calls, so one batch at a time goes through the model.
        self._model_lock = Lock()

    @property
    def hit_rate(self) -> float:
        """Hits as a share of all texts asked for; 0 before the first one."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0

    @property
    def cached_bytes(self) -> int:
        """What the cached vectors and their texts take in memory."""
        return self._cached_bytes

    def encode(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        """n texts → (n, dim) float32, each row of unit length; equal texts are encoded once.

        Text beyond the model's own length limit (256 tokens for MiniLM) does not count.
        Raises `UsageError` for anything but texts.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UsageError("encode takes a list of texts, for example encode(['my card is lost']).")
        found = self._look_up(texts)
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            with self._model_lock:
                vectors = self._encode(missing, progress)
            # Copies, so that one cached row does not keep its whole batch in memory.
            found.update((text, vector.astype(np.float32)) for text, vector in zip(missing, vectors, strict=True))
        self._remember(missing, found, asked=len(texts))
        return np.stack([found[text] for text in texts]) if len(texts) else np.empty((0, self.dim), dtype=np.float32)

    def clear_cache(self) -> None:
        """Forget all vectors and start the counts again."""
        with self._cache_lock:
            self._cache.clear()
            self._cached_bytes = self.hits = self.misses = 0

    def _look_up(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        with self._cache_lock:
            found = {text: self._cache[text] for text in texts if text in self._cache}
            for text in found:
                self._cache.move_to_end(text)
            return found

    def _remember(self, encoded: list[str], vectors: dict[str, np.ndarray], asked: int) -> None:
        with self._cache_lock:
            self.misses += len(encoded)
            self.hits += asked - len(encoded)
            for text in encoded:
                if text not in self._cache:  # another thread may have encoded it meanwhile
                    self._cache[text] = vectors[text]
                    self._cached_bytes += _size(text, vectors[text])
            while self._cached_bytes > self.cache_bytes:
                self._cached_bytes -= _size(*self._cache.popitem(last=False))


def _size(text: str, vector: np.ndarray) -> int:
    return sys.getsizeof(text) + sys.getsizeof(vector)


def _sentence_transformer(base: models.BaseModel, device: str) -> Encode:
    with models.quiet_loading():
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(base.location, device=device)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"The embedding model {base.name} cannot be loaded ({str(error).splitlines()[0]}). Expected a Hugging "
                "Face id that is cached or reachable, or a local folder with config.json and weights."
            ) from error

    def encode(texts: list[str], progress: bool) -> np.ndarray:
        return model.encode(texts, normalize_embeddings=True, show_progress_bar=progress)

    return encode
