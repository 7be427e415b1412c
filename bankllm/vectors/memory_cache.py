"""The layer of the embedder's cache that lies in this process's memory, and the counts of both layers."""

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np


@dataclass
class CacheCounts:
    """Texts by where their vector came from."""

    memory: int = 0
    shared: int = 0
    missed: int = 0
    """The model encoded them."""
    observe: Callable[[int, int, int], None] = field(default=lambda *counts: None, repr=False, compare=False)
    """Hears what `add` adds; for metrics."""
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, *, memory: int, shared: int, missed: int) -> None:
        with self._lock:
            self.memory += memory
            self.shared += shared
            self.missed += missed
        self.observe(memory, shared, missed)

    def reset(self) -> None:
        with self._lock:
            self.memory = self.shared = self.missed = 0

    @property
    def hit_rate(self) -> float:
        """Share of all texts that needed no model; 0 before the first."""
        return _share(self.memory + self.shared, self.missed)

    @property
    def memory_hit_rate(self) -> float:
        """Share of all texts that memory answered."""
        return _share(self.memory, self.shared + self.missed)

    @property
    def shared_hit_rate(self) -> float:
        """Share that the shared layer answered, of the texts that memory did not."""
        return _share(self.shared, self.missed)


class MemoryCache:
    """Vectors by key; drops the least recently used ones beyond `max_bytes`. Safe to use from several threads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._vectors: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._nbytes = 0
        self._lock = Lock()

    @property
    def nbytes(self) -> int:
        """What vectors and keys take in memory."""
        return self._nbytes

    def get(self, keys: Iterable[bytes]) -> dict[bytes, np.ndarray]:
        """The vectors that are here; they are the most recently used ones now."""
        with self._lock:
            found = {key: self._vectors[key] for key in keys if key in self._vectors}
            for key in found:
                self._vectors.move_to_end(key)
            return found

    def put(self, vectors: Mapping[bytes, np.ndarray]) -> None:
        """Keep these, as far as there is room."""
        with self._lock:
            for key, vector in vectors.items():
                if key not in self._vectors:  # another thread may have encoded it meanwhile
                    self._vectors[key] = vector
                    self._nbytes += _size(key, vector)
            while self._nbytes > self.max_bytes:
                self._nbytes -= _size(*self._vectors.popitem(last=False))

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remove these, where they are here."""
        with self._lock:
            for key in keys:
                vector = self._vectors.pop(key, None)
                if vector is not None:
                    self._nbytes -= _size(key, vector)

    def clear(self) -> None:
        """Remove all of them."""
        with self._lock:
            self._vectors.clear()
            self._nbytes = 0


def _share(hits: int, others: int) -> float:
    return hits / (hits + others) if hits else 0.0


def _size(key: bytes, vector: np.ndarray) -> int:
    return sys.getsizeof(key) + sys.getsizeof(vector)
