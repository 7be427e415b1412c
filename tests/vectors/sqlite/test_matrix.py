"""The in-memory matrix of a namespace: appending rows, and nearest rows."""

import numpy as np
import pytest

from bankllm.vectors.rows import Query
from bankllm.vectors.sqlite.matrix import Matrix

DIM = 3


def random_vectors(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, DIM)).astype(np.float32)


def filled(vectors: np.ndarray, sizes: tuple[int, ...], coming: int = 0) -> Matrix:
    matrix = Matrix.empty((10, None), DIM, coming)
    for size in sizes:
        start = matrix.rows
        matrix = matrix.extended(range(10 + start, 10 + start + size), vectors[start : start + size], [{}] * size)
    return matrix


def nearest(matrix: Matrix, query: np.ndarray, top_k: int) -> tuple[list[int], list[float]]:
    """Return seqs and scores of the nearest rows."""
    hits = matrix.search(Query("CUST001", query.astype(np.float32)), top_k)
    return [int(matrix.seqs[hit.at]) for hit in hits], [hit.score for hit in hits]


@pytest.mark.parametrize("sizes", [(), (5,), (1, 1, 1, 1, 1), (4, 1, 300, 2), (250,)])
def test_rows_stay_in_order_for_all_batch_sizes(sizes: tuple[int, ...]) -> None:
    vectors = random_vectors(sum(sizes))
    matrix = filled(vectors, sizes)
    np.testing.assert_array_equal(matrix.vectors[: matrix.rows], vectors)
    assert matrix.seqs[: matrix.rows].tolist() == list(range(10, 10 + len(vectors)))
    assert matrix.seq_before(matrix.rows) == (9 + len(vectors) if sizes else 0)
    assert matrix.nbytes >= vectors.nbytes


def test_growing_copies_few_rows_and_a_known_size_is_allocated_once() -> None:
    vectors = random_vectors(1000)
    buffers = set()
    matrix = filled(vectors, (100,))
    for row in range(100, 1000):
        matrix = matrix.extended([10 + row], vectors[row : row + 1], [{}])
        buffers.add(matrix.vectors.ctypes.data)
    assert len(buffers) <= 12
    assert len(matrix.vectors) <= 1250
    known = filled(vectors, (300, 300, 400), coming=1000)
    assert known.vectors.shape == (1000, DIM)


def test_a_matrix_does_not_change_when_rows_are_appended() -> None:
    before = filled(np.zeros((4, DIM), np.float32), (4,), coming=10)
    after = before.extended(range(14, 20), np.ones((6, DIM), np.float32), [{}] * 6)
    assert nearest(before, np.ones(DIM), 9) == ([10, 11, 12, 13], [0, 0, 0, 0])
    assert nearest(after, np.ones(DIM), 2) == ([14, 15], [3, 3])


def test_ties_keep_their_order_for_every_top_k() -> None:
    vectors = np.array([[0.5], [0.9], [0.5], [0.1], [0.5], [0.9]], np.float32) * np.eye(1, DIM, dtype=np.float32)
    matrix, order = filled(vectors, (6,)), [11, 15, 10, 12, 14, 13]
    for top_k in (1, 2, 3, 4, 6, 9):
        assert nearest(matrix, np.eye(1, DIM)[0], top_k)[0] == order[:top_k]
