"""One namespace's vectors in memory: a list of matrices that grows while rows are written, and never copies much.

block.append(seqs, vectors)
found = block.snapshot()              # stays as it is, however the block grows
found.nearest(query, top_k)           # seqs, which name the rows in the file, and scores
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Version = tuple[int | None, int | None]
"""The namespace's oldest seq and its generation: the two never come again together with other rows."""
SEGMENT_ROWS = 16_384
"""Rows of one matrix (25 MB at 384 numbers): reading one, or multiplying it, is over in some milliseconds."""
SPARE = 4
"""A buffer that must grow does so by a quarter: a row is copied a handful of times however many follow it."""


@dataclass(frozen=True)
class Snapshot:
    """The rows of a block at one moment, oldest first."""

    version: Version
    segments: tuple[np.ndarray, ...]
    """(n, dim) float32 each, none of them empty."""
    _seqs: "array[int]"
    """The block's own: the first ones never change."""

    def __len__(self) -> int:
        return sum(map(len, self.segments))

    def scores(self, query: np.ndarray) -> np.ndarray:
        """(n,) float32: each row's product with a (dim,) query."""
        scores, start = np.empty(len(self), np.float32), 0
        for segment in self.segments:
            np.dot(segment, query, out=scores[start : start + len(segment)])
            start += len(segment)
        return scores

    def nearest(self, query: np.ndarray, top_k: int) -> tuple[list[int], list[float]]:
        """Seqs and scores of the `top_k` rows with the highest products, best first; equal ones oldest first."""
        scores = self.scores(query)
        positions = best(scores, top_k)
        return [self._seqs[position] for position in positions], scores[positions].tolist()


class Block:
    """The rows of one namespace that had `version` in the file, oldest first; those up to seq `floor` left out."""

    def __init__(self, dim: int, version: Version, floor: int = 0) -> None:
        self.version = version
        self.floor = floor
        self.seqs = array("q")
        """Names each row in the file; ascending."""
        self._dim = dim
        self._full: list[np.ndarray] = []
        self._last = np.empty((0, dim), np.float32)
        """A buffer of at most `SEGMENT_ROWS`, the only one with spare rows."""
        self._filled = 0

    def __len__(self) -> int:
        return len(self.seqs)

    @property
    def nbytes(self) -> int:
        """Bytes held, spare rows and all; the seqs' 8 bytes a row are left out."""
        return sum(segment.nbytes for segment in self._full) + self._last.nbytes

    @property
    def last_seq(self) -> int:
        """The newest row's seq; the floor in an empty block."""
        return self.seqs[-1] if self.seqs else self.floor

    def append(self, seqs: Sequence[int], vectors: np.ndarray) -> None:
        """Add rows newer than all that are here, (n, dim) float32. The first ones fill their buffer without spare."""
        done = 0
        while done < len(vectors):
            self._start_another_if_full()
            taken = vectors[done : done + SEGMENT_ROWS - self._filled]
            self._fill(taken)
            done += len(taken)
        self.seqs.extend(seqs)

    @property
    def spare(self) -> int:
        """Rows that fit into the buffer before it must grow."""
        return len(self._last) - self._filled

    def reserve(self, rows: int) -> None:
        """Make room for so many rows more, a whole buffer at most: they are about to come, piece by piece."""
        self._start_another_if_full()
        self._resize(min(self._filled + rows, SEGMENT_ROWS))

    def snapshot(self) -> Snapshot:
        """The rows of this moment; what is appended later goes into spare rows or a new buffer."""
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
    """The blocks used last, by namespace, within `limit` bytes; one block may be larger than that, then it is alone."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self.blocks: OrderedDict[str, Block] = OrderedDict()
        """The one used last stands last."""

    def take(self, namespace: str) -> Block | None:
        """A block out of the cache, since it may grow; `put` brings it back."""
        block = self.blocks.pop(namespace, None)
        if block is not None:
            self.nbytes -= block.nbytes
        return block

    def put(self, namespace: str, block: Block) -> None:
        """Keep a block as the one used last, and drop those unused for longest."""
        if block.nbytes:
            self.blocks[namespace] = block
            self.nbytes += block.nbytes
        while self.nbytes > self.limit and len(self.blocks) > 1:
            self.take(next(iter(self.blocks)))


def best(scores: np.ndarray, top_k: int) -> list[int]:
    """Positions of the `top_k` highest of (n,) scores, best first, equal scores in order."""
    if top_k < len(scores):
        threshold = np.partition(scores, -top_k)[-top_k]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores))
    order = np.argsort(-scores[candidates], kind="stable")[:top_k]
    return candidates[order].tolist()
