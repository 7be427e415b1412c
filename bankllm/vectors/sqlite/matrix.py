"""The vectors and words of one namespace in memory, with exact search, or approximate search with a graph."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self

import numpy as np

from bankllm.vectors.filters import Values
from bankllm.vectors.fusion import CODE_WEIGHT, DEPTH, FoundBy, fuse, word_weight
from bankllm.vectors.rows import Query
from bankllm.vectors.sqlite.neighbor_graph import NeighborGraph
from bankllm.vectors.sqlite.words import Words, appended

Version = tuple[int | None, int | None]
"""The namespace's oldest seq and its generation. The same pair never describes two different states of a namespace."""
OVERHEAD = 1000
"""Bytes of a matrix besides its arrays, so that even empty matrices count in a cache."""
METADATA_BYTES = 400
"""Approximate bytes of the metadata of one row."""


class Hit(NamedTuple):
    """Position of a row in the matrix, and its scores as in `Match`."""

    at: int
    score: float
    lexical: float = 0.0
    fused: float = 0.0
    found_by: FoundBy = "dense"


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
    words: Words
    """Words of the first rows; fewer than `rows` if no search by words needed them yet."""
    graph: NeighborGraph | None = None
    """Proposes the rows to compare with a query; None, or while it is not ready: all rows."""
    metadata: list[Values] = field(default_factory=list)
    """For each row, the values that filters compare; may contain later rows."""

    @classmethod
    def empty(cls, version: Version, dim: int, coming: int) -> Self:
        """Allocate space for `coming` rows."""
        return cls(version, 0, np.empty(coming, np.int64), np.empty((coming, dim), np.float32), Words.empty())

    @property
    def nbytes(self) -> int:
        graph = self.graph.nbytes if self.graph else 0
        arrays = self.seqs.nbytes + self.vectors.nbytes
        return arrays + self.words.nbytes + graph + METADATA_BYTES * self.rows + OVERHEAD

    def seq_before(self, row: int) -> int:
        """Return the primary key of the row before this position; 0 before the first row."""
        return int(self.seqs[row - 1]) if row else 0

    def extended(self, seqs: Sequence[int], vectors: np.ndarray, metadata: Sequence[Values]) -> "Matrix":
        """Return a matrix with (n, dim) more vectors. A full buffer grows by a quarter of its rows."""
        self.metadata[self.rows :] = metadata
        return replace(
            self,
            rows=self.rows + len(seqs),
            seqs=appended(self.seqs, self.rows, seqs),
            vectors=appended(self.vectors, self.rows, vectors),
        )

    def search(
        self, query: Query, top_k: int, visible: np.ndarray | None = None, others: Sequence[float] = ()
    ) -> list[Hit]:
        """Return the best `top_k` rows for a query of unit vectors, best first; ties are oldest first.

        `visible` (rows,) bool excludes rows; None excludes none, and only then the graph is used. `others` are cosines
        of texts that are stored elsewhere and are ranked, too; `Hit.at` of the first one is `rows`.
        """
        vectors, parts = self.vectors[: self.rows], np.atleast_2d(query.vector)
        candidates = np.arange(self.rows) if visible is None else np.flatnonzero(visible)
        depth = max(top_k, DEPTH) if query.mode == "hybrid" else top_k
        near = self.graph.propose(vectors, parts, depth) if self.graph and visible is None else None
        if near is None:
            near, cosines = candidates, (vectors @ parts.T).max(axis=1)
        else:
            cosines = np.full(self.rows, -1, np.float32)
            cosines[near] = (vectors[near] @ parts.T).max(axis=1)
        everywhere = np.concatenate([cosines, others]) if others else cosines
        dense = best(everywhere, np.concatenate([near, np.arange(self.rows, len(everywhere))]), depth)
        if query.mode == "dense":
            return [Hit(at, float(everywhere[at])) for at in dense]
        bm25, codes = self.words.scores_of_parts(query.words)
        lexical = best(bm25, candidates[bm25[candidates] > 0], depth)
        coded = [] if codes is None else best(codes, candidates[codes[candidates] > 0], depth)
        if near is not candidates and (worded := [*lexical, *coded]):
            everywhere[worded] = (vectors[worded] @ parts.T).max(axis=1)
        if query.mode == "lexical":
            return [Hit(at, float(everywhere[at]), float(bm25[at]), found_by="lexical") for at in lexical]
        rankings = [(dense, 1.0), (lexical, word_weight(self.words.mean_length))]
        if codes is not None:
            rankings.append((coded, CODE_WEIGHT))
        by_meaning, by_words = set(dense), set(lexical)
        hits = []
        for at, fused in list(fuse(rankings).items())[:top_k]:
            found_by: FoundBy = "dense" if at not in by_words else "both" if at in by_meaning else "lexical"
            hits.append(Hit(at, float(everywhere[at]), float(bm25[at]) if at < self.rows else 0.0, fused, found_by))
        return hits


def best(scores: np.ndarray, candidates: np.ndarray, count: int) -> list[int]:
    """Return the `count` candidates with the highest scores, best first; ties in the order of the candidates."""
    if count < len(candidates):
        found = scores[candidates]
        candidates = candidates[found >= np.partition(found, -count)[-count]]
    order: list[int] = candidates[np.argsort(-scores[candidates], kind="stable")[:count]].tolist()
    return order
