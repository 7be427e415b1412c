"""Text to unit vectors through sentence-transformers, with a cache in front and honest counts of its hits.

    Embedder().encode(["my card is lost"])  # (1, 384) float32

Two texts share a cached vector only where the model reads the same: a key is a hash of the token ids. Vectors lie
in memory and, where there is a `SharedCache`, with the store for other processes.
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
"""Texts → (n, dim) unit vectors."""

CHUNK = 128
"""Texts between two steps of the progress bar; others get their turn at the model in between."""
FORGOTTEN = 512
"""Texts whose vectors are forgotten at a time, for the same reason."""
PROBES = ["My card is LOST!", "Où  est\tma carte ?\n", "", "💳 [CLS] 中文", "a long one " * 2000]
"""The tokenizer must read these as the model's own input does, before cache keys are made with it."""


class Embedder:
    """Encodes texts with a sentence-transformers model; a plain encoder folder is pooled by its mean.

    Safe to use from several threads. Beyond `cache_bytes` the least recently used vectors leave memory.
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
        """Load the model, or take what somebody else has loaded of it.

        `encode` makes the same unit vectors as sentence-transformers would; where it rounds, `variant` says how.
        Without `tokenise` (a model with no fast tokenizer, or one that puts a prompt before each text) only texts
        that are equal to the letter share a vector. Raises `ModelError` where the model is missing or damaged.
        """
        base = base_models.resolve(base_model, settings)
        name = f"{base.name}@{base.sha256[:12]}" if base.sha256 else base.name
        self.model_id = f"{name}+{variant}" if variant else name
        """Name and hash of the weights: vectors of different ids must never be mixed."""
        if encode is None:
            encode, tokenise = _sentence_transformer(base, base_models.device(settings))
        self._encode, self._tokenise = encode, tokenise
        self.dim = int(encode(["warm up"]).shape[1])
        self.counts = CacheCounts()
        self.memory = MemoryCache(cache_bytes)
        self.shared = shared
        self._epoch: int | None = None
        # The model's tokenizer keeps padding state between calls, so one batch at a time goes through the model.
        self._model_lock = Lock()

    def with_shared(self, shared: SharedCache | None) -> Self:
        """The same model, memory and counts in front of a store's own shared layer."""
        other = copy.copy(self)
        other.shared, other._epoch = shared, None
        return other

    @property
    def hits(self) -> int:
        """Texts answered without the model: from memory (or repeated within one batch), or from the shared layer."""
        return self.counts.memory + self.counts.shared

    @property
    def misses(self) -> int:
        """Texts that the model encoded."""
        return self.counts.missed

    def encode(self, texts: Sequence[str], progress: bool = False, *, share: bool = True) -> np.ndarray:
        """n texts → (n, dim) float32, each row of unit length; what the model reads alike is encoded once.

        Text beyond the model's own length limit (256 tokens for MiniLM) does not count. `share=False` leaves new
        vectors out of the shared layer: for texts that are stored with their vectors anyway. A batch that is
        interrupted has its finished part in memory. Raises `UsageError` for anything but texts.
        """
        keys = self._keys(texts)
        wanted = dict(zip(keys, texts, strict=True))
        found = self.memory.get(wanted)
        in_memory = list(found)
        shared, epoch = self._from_shared([key for key in wanted if key not in found])
        found |= shared
        new = self._run({key: text for key, text in wanted.items() if key not in found}, progress)
        found |= new
        if self.shared is not None:
            self.shared.touch(in_memory)
            if share:
                self.shared.put(new, epoch)
        self.counts.add(memory=len(keys) - len(shared) - len(new), shared=len(shared), missed=len(new))
        return np.stack([found[key] for key in keys]) if keys else np.empty((0, self.dim), dtype=np.float32)

    def forget(self, texts: Sequence[str]) -> None:
        """Remove these texts' vectors from memory and from the shared layer; a vector tells much of its text.

        Other processes drop theirs at their next look into the shared layer. Raises `StoreError` where that fails.
        """
        for start in range(0, len(texts), FORGOTTEN):
            keys = self._keys(texts[start : start + FORGOTTEN])
            self.memory.forget(keys)
            if self.shared is not None:
                self.shared.forget(keys)

    def clear_cache(self) -> None:
        """Forget all vectors, the shared ones too, and start the counts again."""
        self.memory.clear()
        self.counts.reset()
        if self.shared is not None:
            self.shared.clear()

    def _keys(self, texts: Sequence[str]) -> list[bytes]:
        """A hash for each text: of the model and of what it reads. Raises `UsageError` for anything but texts."""
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UsageError("encode takes a list of texts, for example encode(['my card is lost']).")
        try:
            exact = [text.encode() for text in texts]
        except UnicodeEncodeError as error:
            raise UsageError("A text holds half of a surrogate pair, which is no character. Send valid Unicode.") from (
                error
            )
        if self._tokenise is not None:
            exact = [np.asarray(ids, "<u4").tobytes() for ids in self._tokenise(list(texts))] if exact else []
        model = self.model_id.encode() + b"\0"
        return [hashlib.sha256(model + read).digest() for read in exact]

    def _from_shared(self, keys: list[bytes]) -> tuple[dict[bytes, np.ndarray], int | None]:
        if self.shared is None or not keys:
            return {}, None
        found, epoch = self.shared.get(keys)
        if epoch is not None and (self._epoch is None or epoch > self._epoch):
            if self._epoch is not None:
                self.memory.clear()  # somebody has forgotten something; which texts, nobody may know
            self._epoch = epoch
        self.memory.put(found)
        return found, epoch

    def _run(self, missing: Mapping[bytes, str], progress: bool) -> dict[bytes, np.ndarray]:
        order = sorted(missing, key=lambda key: len(missing[key]), reverse=True)  # like lengths need little padding
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
                "Face id that is cached or reachable, or a local folder with config.json and weights."
            ) from error

    def encode(texts: list[str]) -> np.ndarray:
        return model.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    return encode, _tokeniser(model)


def _tokeniser(model: Any) -> base_models.Tokenise | None:
    """What the model reads, without its padding; None where there is no fast tokenizer that reads just that."""
    tokenise = base_models.tokeniser(model.tokenizer, model.max_seq_length)
    if tokenise is None or model.default_prompt_name is not None:
        return None
    preprocess = getattr(model, "preprocess", None) or model.tokenize  # its older name
    read = [preprocess([text])["input_ids"][0].tolist() for text in PROBES]
    return tokenise if tokenise(PROBES) == read else None
