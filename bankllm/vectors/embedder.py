"""Text embeddings of sentence-transformers models, computed by an ONNX graph and cached in this process.

The graph of a model is exported once and kept in `BANKLLM_CACHE`. sentence-transformers computes the same vectors on a
GPU, and for models with parts that the graph does not have.

A vector reveals much of its text, so it stays in the cache for at most `TTL_S`: what one process forgets also leaves
the caches of the others.
"""

import hashlib
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np
from cachetools import TTLCache
from tqdm.auto import tqdm

from bankllm.errors import ModelError, UsageError, explained
from bankllm.model import base_models
from bankllm.model.artifact import Classifier
from bankllm.model.denormals import flush_denormals
from bankllm.model.quiet_loading import quiet_loading
from bankllm.model.sentence_pooling import sentence_pooling
from bankllm.settings import Settings, get_settings
from bankllm.util.processes import usable_cores

Encode = Callable[[list[str]], np.ndarray]
"""n texts → (n, dim) vectors of unit length. Several threads may call it at the same time."""

TTL_S = 600.0
"""Maximum age of a cached vector in seconds."""
ENTRY_OVERHEAD = 400
"""Bytes of a cache entry besides its vector: key, links and objects."""
CHUNK = 128
"""Texts per model call in `Embedder.encode`, which may take a second; the vectors of a finished chunk are cached."""
BATCH = 16
"""Texts per forward pass."""
LONG_TEXT, PASSAGE = 1000, 600
"""Characters from which a stored text is embedded in passages, because the encoder ignores what follows, and characters
of a passage."""
LONG_QUERY, SENTENCE, MAX_PARTS = 200, 12, 16
"""Characters from which a query is also searched sentence by sentence; shorter sentences are joined."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


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


class Embedder:
    """Encodes texts as sentence-transformers does; a plain encoder folder gets mean pooling. Thread-safe."""

    def __init__(
        self,
        base_model: str = "minilm",
        cache_bytes: int | None = None,
        settings: Settings | None = None,
        *,
        encode: Encode | None = None,
    ) -> None:
        """Load the model, or use `encode` of a loaded one. Raises `ModelError` if it cannot be loaded.

        The first use of a model exports its graph, which takes seconds. `encode` must return the same unit vectors as
        sentence-transformers. `cache_bytes` limits the cache (default: the setting `embedding_cache_bytes`).
        """
        settings = settings or get_settings()
        base = base_models.resolve(base_model, settings)
        self.model_id = f"{base.name}@{base.sha256[:12]}" if base.sha256 else base.name
        """Name and weight hash of the model. Vectors with different ids must never be compared."""
        self._encode = encode or _load(base, settings)
        self.dim = int(self._encode(["warm up"]).shape[1])
        self.counts = CacheCounts()
        limit = settings.embedding_cache_bytes if cache_bytes is None else cache_bytes
        self._cache: TTLCache[bytes, np.ndarray] = TTLCache(limit, TTL_S, getsizeof=_size)
        self._cache_lock = Lock()

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

    def expire_cache(self) -> None:
        """Drop the vectors that are older than `TTL_S`, which otherwise stay in memory until the next text."""
        with self._cache_lock:
            self._cache.expire()

    def clear_cache(self) -> None:
        with self._cache_lock:
            self._cache.clear()

    def _keys(self, texts: Sequence[str]) -> list[bytes]:
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UsageError("encode expects a list of texts, as in encode(['my card is lost']).")
        with explained(UsageError, "A text contains an unpaired surrogate", "Send valid Unicode.", UnicodeEncodeError):
            return [hashlib.sha256(text.encode()).digest() for text in texts]

    def _run(self, missing: Mapping[bytes, str], progress: bool) -> dict[bytes, np.ndarray]:
        """Encode the missing texts with the model, in chunks, and put the vectors into the cache."""
        order = sorted(missing, key=lambda key: len(missing[key]), reverse=True)  # similar lengths need less padding
        vectors: dict[bytes, np.ndarray] = {}
        with tqdm(total=len(order), desc="embed", unit="text", disable=not progress) as bar:
            for start in range(0, len(order), CHUNK):
                chunk = order[start : start + CHUNK]
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


def _load(base: base_models.BaseModel, settings: Settings) -> Encode:
    """Load the model in the runtime that the settings and the machine allow."""
    base = replace(base, location=base_models.ready_to_load(base, settings))
    folder = Path(base.location)
    if sentence_pooling(folder) is None or base_models.runs_in_torch(settings):
        return _sentence_transformer(base, base_models.device(settings))
    from bankllm.model.export import cached_export
    from bankllm.model.onnx_classifier import OnnxClassifier

    # One thread per pass, as in `bankllm serve`: with more, every layer waits for its slowest thread.
    classifier = OnnxClassifier.load(cached_export(folder, settings), threads=1)
    return encoder(classifier, settings.encoder_threads or usable_cores())


def encoder(classifier: Classifier, passes: int = 1) -> Encode:
    """Return the function that embeds with a classifier of a base model; up to `passes` passes run in parallel."""
    pool = ThreadPoolExecutor(passes, thread_name_prefix="embed")

    def encode(texts: list[str]) -> np.ndarray:
        if len(texts) == 1 or passes == 1:
            return classifier.score(texts, BATCH).embeddings
        vectors = np.empty((len(texts), classifier.hidden), np.float32)

        def embed(first: int) -> None:
            vectors[first::passes] = classifier.score(texts[first::passes], BATCH).embeddings

        list(pool.map(embed, range(passes)))
        return vectors

    return encode


def _sentence_transformer(base: base_models.BaseModel, device: str) -> Encode:
    """Load a model in torch."""
    with quiet_loading():
        from sentence_transformers import SentenceTransformer

        from bankllm.model.torch_classifier import load_body

        load_body(base, quantised=False, device="meta")  # SentenceTransformer only logs which tensors are missing
        expected = "Pass a Hugging Face id that is cached or reachable, or a local folder with config.json and weights."
        with explained(ModelError, f"The embedding model {base.name} cannot be loaded", expected):
            model = SentenceTransformer(base.location, device=device)
    tokenizing = Lock()  # the tokenizer keeps padding state between calls

    def encode(texts: list[str]) -> np.ndarray:
        flush_denormals()
        with tokenizing:
            return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False))

    return encode


def embed_texts(encode: Encode, texts: Sequence[str]) -> np.ndarray:
    """Encode n texts to (n, dim); a long text is the mean of its passages, so that its end counts, too."""
    passages = [textwrap.wrap(text, PASSAGE) if len(text) > LONG_TEXT else [text] for text in texts]
    vectors: np.ndarray = encode([passage for each in passages for passage in each])
    if len(vectors) == len(texts):
        return vectors
    starts = np.cumsum([0, *map(len, passages)])[:-1]
    sums = np.add.reduceat(vectors, starts, axis=0)
    unit: np.ndarray = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return unit


def query_parts(query: str) -> list[str]:
    """Return the query, and the sentences of a long one, which may ask for several things."""
    if len(query) <= LONG_QUERY:
        return [query]
    shortest = max(SENTENCE, len(query) // MAX_PARTS)
    parts = [""]
    for sentence in _SENTENCE_END.split(query):
        if len(parts[-1]) < shortest:
            parts[-1] = f"{parts[-1]} {sentence}".strip()
        else:
            parts.append(sentence)
    return [query, *(part for part in parts if part.strip())] if len(parts) > 1 else [query]
