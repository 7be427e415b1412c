"""The vectors of one namespace as one float32 matrix with exact search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

Version = tuple[int | None, int | None]
"""The namespace's oldest seq and its generation. The same pair never describes two different states of a namespace."""
OVERHEAD = 1000
"""Bytes of a matrix besides its arrays, so that even empty matrices count in a cache."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """The first `rows` rows of two buffers, oldest first; it never changes.

    `extended` returns a matrix that shares the buffers. Only the longest matrix of a buffer may be extended.
    """

    version: Version
    rows: int
    seqs: np.ndarray
    """Buffer (≥ rows,) int64: primary key of each row in the file, ascending."""
    vectors: np.ndarray
    """Buffer (≥ rows, dim) float32."""

    @classmethod
    def empty(cls, version: Version, dim: int, coming: int) -> Self:
        """Allocate space for `coming` rows."""
        return cls(version, 0, np.empty(coming, np.int64), np.empty((coming, dim), np.float32))

    @property
    def nbytes(self) -> int:
        return self.seqs.nbytes + self.vectors.nbytes + OVERHEAD

    @property
    def last_seq(self) -> int:
        return int(self.seqs[self.rows - 1]) if self.rows else 0

    def extended(self, seqs: Sequence[int], vectors: np.ndarray) -> "Matrix":
        """Return a matrix with (n, dim) more vectors. A full buffer grows by a quarter of its rows."""
        rows = self.rows + len(seqs)
        all_seqs, all_vectors = self.seqs, self.vectors
        if rows > len(all_seqs):
            larger = Matrix.empty(self.version, all_vectors.shape[1], rows + rows // 4)
            larger.seqs[: self.rows], larger.vectors[: self.rows] = all_seqs[: self.rows], all_vectors[: self.rows]
            all_seqs, all_vectors = larger.seqs, larger.vectors
        all_seqs[self.rows : rows], all_vectors[self.rows : rows] = seqs, vectors
        return Matrix(self.version, rows, all_seqs, all_vectors)

    def nearest(
        self, query: np.ndarray, top_k: int, visible: np.ndarray | None = None
    ) -> tuple[list[int], list[float]]:
        """Return seqs and scores of the `top_k` rows nearest to a (dim,) query, best first; ties are oldest first.

        `visible` (rows,) bool excludes rows; None excludes none.
        """
        scores = self.vectors[: self.rows] @ query
        positions = np.arange(self.rows) if visible is None else np.flatnonzero(visible)
        if top_k < len(positions):
            found = scores[positions]
            positions = positions[found >= np.partition(found, -top_k)[-top_k]]
        positions = positions[np.argsort(-scores[positions], kind="stable")[:top_k]]
        return self.seqs[positions].tolist(), scores[positions].tolist()
