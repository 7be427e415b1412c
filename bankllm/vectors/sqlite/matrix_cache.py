"""In-memory matrices of a namespace's vectors: they grow with new rows, with few copies, and support exact search.

block.append(seqs, vectors)
snapshot = block.snapshot()           # immutable; later appends do not change it
snapshot.nearest(query, top_k)        # seqs (primary keys in the file) and scores
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Version = tuple[int | None, int | None]
"""The namespace's oldest seq and its generation. The same pair never describes two different states of a namespace."""
SEGMENT_ROWS = 16_384
"""Maximum rows per matrix (25 MB at 384 dimensions); reading or multiplying one takes a few milliseconds."""
SPARE = 4
"""A full buffer grows by 1/4 of its rows, so each row is copied only a few times."""


@dataclass(frozen=True)
class Snapshot:
    """Immutable view of a block's rows at one time, oldest first."""

    version: Version
    segments: tuple[np.ndarray, ...]
    """Non-empty (n, dim) float32 matrices."""
    _seqs: "array[int]"
    """The block's array; appends do not change its first `len(self)` items."""

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    def scores(self, query: np.ndarray) -> np.ndarray:
        """Return (n,) float32: the dot product of each row with a (dim,) query."""
        scores, start = np.empty(len(self), np.float32), 0
        for segment in self.segments:
            np.dot(segment, query, out=scores[start : start + len(segment)])
            start += len(segment)
        return scores

    def nearest(self, query: np.ndarray, top_k: int) -> tuple[list[int], list[float]]:
        """Return seqs and scores of the `top_k` rows with the highest scores, best first; ties are oldest first."""
        scores = self.scores(query)
        positions = top_positions(scores, top_k)
        return [self._seqs[position] for position in positions], scores[positions].tolist()


class Block:
    """The rows of one namespace in `version`, oldest first, without rows up to seq `floor`.

    Full matrices are never copied again; only the last buffer grows.
    """

    def __init__(self, dim: int, version: Version, floor: int = 0) -> None:
        self.version = version
        self.floor = floor
        self.seqs = array("q")
        """Primary key of each row in the file, ascending."""
        self._dim = dim
        self._full: list[np.ndarray] = []
        self._last = np.empty((0, dim), np.float32)
        """Buffer of at most `SEGMENT_ROWS` rows; the only one with unused rows at its end."""
        self._filled = 0

    def __len__(self) -> int:
        return len(self.seqs)

    @property
    def nbytes(self) -> int:
        """Size of the matrices in bytes, including unused rows, without the seqs (8 bytes per row)."""
        return sum(segment.nbytes for segment in self._full) + self._last.nbytes

    @property
    def last_seq(self) -> int:
        """Seq of the newest row; `floor` if the block is empty."""
        return self.seqs[-1] if self.seqs else self.floor

    def append(self, seqs: Sequence[int], vectors: np.ndarray) -> None:
        """Append (n, dim) float32 vectors of rows that are newer than all rows of the block.

        The first append to an empty block allocates no unused rows.
        """
        done = 0
        while done < len(vectors):
            self._start_another_if_full()
            taken = vectors[done : done + SEGMENT_ROWS - self._filled]
            self._fill(taken)
            done += len(taken)
        self.seqs.extend(seqs)

    @property
    def spare(self) -> int:
        """Number of rows that fit into the buffer before it must grow."""
        return len(self._last) - self._filled

    def reserve(self, rows: int) -> None:
        """Allocate space for `rows` more rows, up to a full buffer, before they are appended in parts."""
        self._start_another_if_full()
        self._resize(min(self._filled + rows, SEGMENT_ROWS))

    def snapshot(self) -> Snapshot:
        """Return a view of the current rows; later appends write only to unused rows or new buffers."""
        last = [self._last[: self._filled]] if self._filled else []
        return Snapshot(self.version, (*self._full, *last), self.seqs)

    def _start_another_if_full(self) -> None:
        if self._filled == SEGMENT_ROWS:
            self._full.append(self._last)
            self._last, self._filled = np.empty((0, self._dim), np.float32), 0

    def _fill(self, vectors: np.ndarray) -> None:
        n = self._filled + len(vectors)
        if n > len(self._last):
            spare = n // SPARE if self._filled else SEGMENT_ROWS // SPARE if self._full else 0
            self._resize(min(n + spare, SEGMENT_ROWS))
        self._last[self._filled : n] = vectors
        self._filled = n

    def _resize(self, rows: int) -> None:
        if rows > len(self._last):
            grown = np.empty((rows, self._dim), np.float32)
            grown[: self._filled] = self._last[: self._filled]
            self._last = grown


class BlockCache:
    """LRU cache of blocks by namespace, limited to `limit` bytes. A larger block is cached as the only one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self.blocks: OrderedDict[str, Block] = OrderedDict()
        """The most recently used block is last."""

    def take(self, namespace: str) -> Block | None:
        """Remove a block from the cache and return it, because it may grow; `put` adds it again."""
        block = self.blocks.pop(namespace, None)
        if block is not None:
            self.nbytes -= block.nbytes
        return block

    def put(self, namespace: str, block: Block) -> None:
        """Add a block as the most recently used one and evict the least recently used blocks beyond the limit."""
        if block.nbytes:
            self.blocks[namespace] = block
            self.nbytes += block.nbytes
        while self.nbytes > self.limit and len(self.blocks) > 1:
            self.take(next(iter(self.blocks)))


def top_positions(scores: np.ndarray, top_k: int) -> list[int]:
    """Return the positions of the `top_k` highest of (n,) scores, best first; ties keep their order."""
    if top_k < len(scores):
        threshold = np.partition(scores, -top_k)[-top_k]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores))
    order = np.argsort(-scores[candidates], kind="stable")[:top_k]
    return candidates[order].tolist()
