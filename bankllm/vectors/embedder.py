"""Text embeddings from sentence-transformers models, cached in this process.

A vector reveals much of its text, so it stays in the cache for at most `TTL_S`: what one process forgets also leaves
the caches of the others.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import numpy as np
from cachetools import TTLCache
from tqdm.auto import tqdm

from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models
from bankllm.settings import Settings, get_settings

Encode = Callable[[list[str]], np.ndarray]
"""n texts → (n, dim) vectors of unit length."""

TTL_S = 600.0
"""Maximum age of a cached vector in seconds."""
ENTRY_OVERHEAD = 400
"""Bytes of a cache entry besides its vector: key, links and objects."""
CHUNK = 128
"""Texts per model call in `Embedder.encode`; other threads can use the model between two chunks."""


@dataclass
class CacheCounts:
    """Number of texts whose vector was cached (or repeated within one batch), and that the model encoded."""

    hits: int = 0
    misses: int = 0
    observe: Callable[[int, int], None] = lambda hits, misses: None
    """Callback for metrics; `add` calls it with the added counts."""
    _lock: Lock = field(default_factory=Lock)

    def add(self, hits: int, misses: int) -> None:
        with self._lock:
            self.hits += hits
            self.misses += misses
        self.observe(hits, misses)

    @property
    def hit_rate(self) -> float:
        return self.hits / max(1, self.hits + self.misses)


class Embedder:
    """Encodes texts with a sentence-transformers model; a plain encoder folder gets mean pooling. Thread-safe."""

    def __init__(
        self,
        base_model: str = "minilm",
        cache_bytes: int | None = None,
        settings: Settings | None = None,
        *,
        encode: Encode | None = None,
    ) -> None:
        """Load the model, or use `encode` of a loaded one. Raises `ModelError` if it cannot be loaded.

        `encode` must return the same unit vectors as sentence-transformers. `cache_bytes` limits the cache (default:
        the setting `embedding_cache_bytes`).
        """
        base = base_models.resolve(base_model, settings)
        self.model_id = f"{base.name}@{base.sha256[:12]}" if base.sha256 else base.name
        """Name and weight hash of the model. Vectors with different ids must never be compared."""
        self._encode = encode or _sentence_transformer(base, base_models.device(settings), settings)
        self.dim = int(self._encode(["warm up"]).shape[1])
        self.counts = CacheCounts()
        limit = (settings or get_settings()).embedding_cache_bytes if cache_bytes is None else cache_bytes
        self._cache: TTLCache[bytes, np.ndarray] = TTLCache(limit, TTL_S, getsizeof=_size)
        self._cache_lock = Lock()
        # The model's tokenizer keeps padding state between calls, so only one thread may call the model at a time.
        self._model_lock = Lock()

    @property
    def cache_bytes(self) -> int:
        with self._cache_lock:
            return int(self._cache.currsize)

    def encode(self, texts: Sequence[str], progress: bool = False) -> np.ndarray:
        """Encode n texts to (n, dim) float32 vectors of unit length.

        The model ignores tokens beyond its own limit (256 for MiniLM). Raises `UsageError` for invalid Unicode.
        """
        keys = self._keys(texts)
        text_of = dict(zip(keys, texts, strict=True))
        with self._cache_lock:
            vectors = {key: vector for key in text_of if (vector := self._cache.get(key)) is not None}
        new = self._run({key: text for key, text in text_of.items() if key not in vectors}, progress)
        vectors |= new
        self.counts.add(len(keys) - len(new), len(new))
        return np.stack([vectors[key] for key in keys]) if keys else np.empty((0, self.dim), dtype=np.float32)

    def clear_cache(self) -> None:
        with self._cache_lock:
            self._cache.clear()

    def _keys(self, texts: Sequence[str]) -> list[bytes]:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UsageError("encode expects a list of texts, as in encode(['my card is lost']).")
        try:
            return [hashlib.sha256(text.encode()).digest() for text in texts]
        except UnicodeEncodeError as error:
            raise UsageError(
                "A text contains an unpaired surrogate, which is not a valid character. Send valid Unicode."
            ) from error

    def _run(self, missing: Mapping[bytes, str], progress: bool) -> dict[bytes, np.ndarray]:
        """Encode the missing texts with the model, in chunks, and put the vectors into the cache."""
        order = sorted(missing, key=lambda key: len(missing[key]), reverse=True)  # similar lengths need less padding
        vectors: dict[bytes, np.ndarray] = {}
        with tqdm(total=len(order), desc="embed", unit="text", disable=not progress) as bar:
            for start in range(0, len(order), CHUNK):
                chunk = order[start : start + CHUNK]
                with self._model_lock:
                    rows = self._encode([missing[key] for key in chunk])
                # Copies, so that one cached row does not keep its whole batch in memory.
                done = {key: row.astype(np.float32) for key, row in zip(chunk, rows, strict=True)}
                with self._cache_lock:
                    self._cache.update((key, row) for key, row in done.items() if _size(row) <= self._cache.maxsize)
                vectors |= done
                bar.update(len(chunk))
        return vectors


def _size(vector: np.ndarray) -> int:
    return vector.nbytes + ENTRY_OVERHEAD


def _sentence_transformer(base: base_models.BaseModel, device: str, settings: Settings | None) -> Encode:
    with base_models.quiet_loading():
        from sentence_transformers import SentenceTransformer

        from bankllm.model.torch_classifier import load_body

        if base.sha256 != base_models.MINILM_SHA256:
            # SentenceTransformer itself only logs which tensors it has replaced by random ones.
            load_body(base, quantised=False, device="cpu")
        location = base_models.ready_to_load(base, settings)
        try:
            model = SentenceTransformer(location, device=device)
        except Exception as error:  # those of transformers, tokenizers and safetensors have no common base class
            raise ModelError(
                f"The embedding model {base.name} cannot be loaded ({type(error).__name__}: "
                f"{(str(error).strip() or 'no message').splitlines()[0]}). Expected a Hugging "
                "Face id that is cached or can be downloaded, or a local folder with config.json and weights."
            ) from error
    return partial(model.encode, normalize_embeddings=True, show_progress_bar=False)
