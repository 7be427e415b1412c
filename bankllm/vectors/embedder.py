"""Text embeddings from sentence-transformers models, with a two-layer cache.

    Embedder().encode(["my card is lost"])  # (1, 384) float32

The cache key is a hash of the model id and the token ids, so two texts share a vector only if the model reads the same
tokens. The first layer is in this process's memory. The optional second layer (`SharedCache`) is in the store's file
and is shared by all processes. `Embedder.counts` counts the hits of each layer.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any, Self

import numpy as np
from tqdm.auto import tqdm

from bankllm.errors import ModelError, UsageError
from bankllm.model import base_models
from bankllm.settings import Settings
from bankllm.vectors.embedding_cache import MAX_BYTES, CacheCounts, MemoryCache, SharedCache

Encode = Callable[[list[str]], np.ndarray]
"""n texts → (n, dim) vectors of unit length."""

CHUNK = 128
"""Texts per model call in `Embedder.encode`; other threads can use the model between two chunks."""
FORGET_CHUNK = 512
"""Texts per step in `Embedder.forget`; other threads can use the caches between two steps."""
PROBES = ["My card is LOST!", "Où  est\tma carte ?\n", "", "💳 [CLS] 中文", "a long one " * 2000]
"""Texts for which the fast tokenizer must return the model's own token ids before it is used for cache keys."""


class Embedder:
    """Encodes texts with a sentence-transformers model; a plain encoder folder gets mean pooling.

    Thread-safe. If the memory cache exceeds `cache_bytes`, the least recently used vectors are evicted.
    """

    def __init__(
        self,
        base_model: str = "minilm",
        cache_bytes: int = MAX_BYTES,
        settings: Settings | None = None,
        *,
        encode: Encode | None = None,
        tokenise: base_models.Tokenise | None = None,
        variant: str = "",
        shared: SharedCache | None = None,
    ) -> None:
        """Load the model, or use the functions `encode` and `tokenise` of a model that is already loaded.

        `encode` must return the same unit vectors as sentence-transformers. If its vectors are rounded, `variant`
        names the rounding; it becomes part of `model_id`. Without `tokenise` (a model without a fast tokenizer, or
        with a default prompt) only identical texts share a vector. Raises `ModelError` if the model is missing or
        damaged.
        """
        base = base_models.resolve(base_model, settings)
        name = f"{base.name}@{base.sha256[:12]}" if base.sha256 else base.name
        self.model_id = f"{name}+{variant}" if variant else name
        """Name and weight hash of the model. Vectors with different ids must never be compared."""
        if encode is None:
            encode, tokenise = _sentence_transformer(base, base_models.device(settings))
        self._encode, self._tokenise = encode, tokenise
        self.dim = int(encode(["warm up"]).shape[1])
        self.counts = CacheCounts()
        self.memory = MemoryCache(cache_bytes)
        self.shared = shared
        self._epoch: int | None = None
        # The model's tokenizer keeps padding state between calls, so only one thread may call the model at a time.
        self._model_lock = Lock()

    def with_shared(self, shared: SharedCache | None) -> Self:
        """Return an embedder with the same model, memory cache and counts, but another shared layer."""
        other = copy.copy(self)
        other.shared, other._epoch = shared, None
        return other

    @property
    def hits(self) -> int:
        """Texts whose vector was cached: in memory (or repeated within one batch), or in the shared layer."""
        return self.counts.memory + self.counts.shared

    @property
    def misses(self) -> int:
        """Texts that were encoded by the model."""
        return self.counts.missed

    def encode(self, texts: Sequence[str], progress: bool = False, *, share: bool = True) -> np.ndarray:
        """Encode n texts to (n, dim) float32 vectors of unit length; texts with equal token ids are encoded once.

        The model ignores tokens beyond its own limit (256 for MiniLM). `share=False` does not write new vectors to the
        shared layer: use it for texts that are stored together with their vectors. If the call is interrupted, the
        finished chunks stay in the memory cache. Raises `UsageError` if `texts` is not a list of valid Unicode texts.
        """
        keys = self._keys(texts)
        text_of = dict(zip(keys, texts, strict=True))
        vectors = self.memory.get(text_of)
        in_memory = list(vectors)
        shared, epoch = self._from_shared([key for key in text_of if key not in vectors])
        vectors |= shared
        new = self._run({key: text for key, text in text_of.items() if key not in vectors}, progress)
        vectors |= new
        if self.shared is not None:
            self.shared.touch(in_memory)
            if share:
                self.shared.put(new, epoch)
        self.counts.add(memory=len(keys) - len(shared) - len(new), shared=len(shared), missed=len(new))
        return np.stack([vectors[key] for key in keys]) if keys else np.empty((0, self.dim), dtype=np.float32)

    def forget(self, texts: Sequence[str]) -> None:
        """Delete the vectors of these texts from memory and from the shared layer.

        A vector reveals much of its text, so it must be deleted with the text. Other processes clear their memory
        cache when they next read the shared layer. Raises `StoreError` if the shared layer cannot be written.
        """
        for start in range(0, len(texts), FORGET_CHUNK):
            keys = self._keys(texts[start : start + FORGET_CHUNK])
            self.memory.forget(keys)
            if self.shared is not None:
                self.shared.forget(keys)

    def clear_cache(self) -> None:
        """Delete all vectors, including those in the shared layer, and reset the counts."""
        self.memory.clear()
        self.counts.reset()
        if self.shared is not None:
            self.shared.clear()

    def _keys(self, texts: Sequence[str]) -> list[bytes]:
        """Return one cache key per text: SHA-256 of the model id and the token ids (or the exact text).

        Raises `UsageError` if `texts` is not a list of valid Unicode texts.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UsageError("encode expects a list of texts, as in encode(['my card is lost']).")
        try:
            exact = [text.encode() for text in texts]
        except UnicodeEncodeError as error:
            raise UsageError(
                "A text contains an unpaired surrogate, which is not a valid character. Send valid Unicode."
            ) from error
        if self._tokenise is not None:
            exact = [np.asarray(ids, "<u4").tobytes() for ids in self._tokenise(list(texts))] if exact else []
        model = self.model_id.encode() + b"\0"
        return [hashlib.sha256(model + content).digest() for content in exact]

    def _from_shared(self, keys: list[bytes]) -> tuple[dict[bytes, np.ndarray], int | None]:
        """Return the vectors found in the shared layer and its epoch; a newer epoch clears the memory cache."""
        if self.shared is None or not keys:
            return {}, None
        found, epoch = self.shared.get(keys)
        if epoch is not None and (self._epoch is None or epoch > self._epoch):
            if self._epoch is not None:
                self.memory.clear()  # a process has deleted vectors; the epoch does not record which texts
            self._epoch = epoch
        self.memory.put(found)
        return found, epoch

    def _run(self, missing: Mapping[bytes, str], progress: bool) -> dict[bytes, np.ndarray]:
        """Encode the missing texts with the model, in chunks, and put the vectors into the memory cache."""
        order = sorted(missing, key=lambda key: len(missing[key]), reverse=True)  # similar lengths need less padding
        vectors: dict[bytes, np.ndarray] = {}
        with tqdm(total=len(order), desc="embed", unit="text", disable=not progress) as bar:
            for start in range(0, len(order), CHUNK):
                chunk = order[start : start + CHUNK]
                with self._model_lock:
                    rows = self._encode([missing[key] for key in chunk])
                # Copies, so that one cached row does not keep its whole batch in memory.
                done = {key: row.astype(np.float32) for key, row in zip(chunk, rows, strict=True)}
                self.memory.put(done)
                vectors |= done
                bar.update(len(chunk))
        return vectors


def _sentence_transformer(base: base_models.BaseModel, device: str) -> tuple[Encode, base_models.Tokenise | None]:
    with base_models.quiet_loading():
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(base.location, device=device)
        except (OSError, ValueError) as error:
            raise ModelError(
                f"The embedding model {base.name} cannot be loaded ({str(error).splitlines()[0]}). Expected a Hugging "
                "Face id that is cached or can be downloaded, or a local folder with config.json and weights."
            ) from error

    def encode(texts: list[str]) -> np.ndarray:
        return model.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    return encode, _tokeniser(model)


def _tokeniser(model: Any) -> base_models.Tokenise | None:
    """Return a function from texts to the model's token ids without padding.

    Returns None if the model has no fast tokenizer, uses a default prompt, or reads `PROBES` differently.
    """
    tokenise = base_models.tokeniser(model.tokenizer, model.max_seq_length)
    if tokenise is None or model.default_prompt_name is not None:
        return None
    preprocess = getattr(model, "preprocess", None) or model.tokenize  # its name in older sentence-transformers
    expected = [preprocess([text])["input_ids"][0].tolist() for text in PROBES]
    return tokenise if tokenise(PROBES) == expected else None
