"""One namespace's vectors in memory, as one matrix that grows while rows are written.

block.append([(seq, vector_bytes), ...])
scores = block.matrix @ query
"""

from array import array
from collections.abc import Sequence

import numpy as np

BLOB = np.dtype("<f4")
"""How a vector's numbers stand in the file, whatever the machine."""
SPARE = 4
"""A full buffer grows by a quarter, so that a row is copied a handful of times however many follow it."""


class Block:
    """The rows of one namespace that had `version` in the file, oldest first."""

    def __init__(self, dim: int, version: tuple[int | None, int | None]) -> None:
        self.version = version
        self.seqs = array("q")
        """Names each row in the file; ascending."""
        self._buffer = np.empty((0, dim), BLOB)

    @property
    def matrix(self) -> np.ndarray:
        """(n, dim) float32, without the spare rows."""
        return self._buffer[: len(self.seqs)]

    @property
    def nbytes(self) -> int:
        """Bytes held, spare rows and all; the seqs' 8 bytes a row are left out."""
        return self._buffer.nbytes

    @property
    def last_seq(self) -> int:
        """The newest row's seq; 0 in an empty block."""
        return self.seqs[-1] if self.seqs else 0

    def append(self, rows: Sequence[tuple[int, bytes]]) -> None:
        """Add rows newer than all that are here. The first ones fill the buffer without spare."""
        had, n = len(self.seqs), len(self.seqs) + len(rows)
        added = np.frombuffer(b"".join(vector for _, vector in rows), BLOB).reshape(-1, self._buffer.shape[1])
        if not had:
            self._buffer = added
        else:
            if n > len(self._buffer):
                grown = np.empty((n + n // SPARE, self._buffer.shape[1]), BLOB)
                grown[:had] = self.matrix
                self._buffer = grown
            self._buffer[had:n] = added
        self.seqs.extend(seq for seq, _ in rows)
