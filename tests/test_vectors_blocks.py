"""A namespace's matrix in memory while rows are appended."""

import numpy as np
import pytest

from bankllm.vectors.blocks import BLOB, Block

DIM = 3


def stored(vectors: np.ndarray, first_seq: int) -> list[tuple[int, bytes]]:
    return [(first_seq + i, vector.astype(BLOB).tobytes()) for i, vector in enumerate(vectors)]


def test_an_empty_block_holds_nothing() -> None:
    block = Block(DIM, (None, None))
    assert (block.matrix.shape, block.nbytes, block.last_seq) == ((0, DIM), 0, 0)


@pytest.mark.parametrize("sizes", [(5,), (1, 1, 1, 1, 1), (4, 1, 300, 2), (100, 30)])
def test_rows_stay_in_order_however_they_come(sizes: tuple[int, ...]) -> None:
    vectors = np.random.default_rng(0).normal(size=(sum(sizes), DIM)).astype(np.float32)
    block = Block(DIM, (10, None))
    done = 0
    for size in sizes:
        block.append(stored(vectors[done : done + size], 10 + done))
        done += size
        np.testing.assert_array_equal(block.matrix, vectors[:done])
        assert list(block.seqs) == list(range(10, 10 + done))
        assert block.last_seq == 9 + done
        assert block.matrix.nbytes <= block.nbytes <= 1.25 * block.matrix.nbytes


def test_growing_copies_seldom() -> None:
    block = Block(DIM, (1, None))
    block.append(stored(np.ones((1000, DIM)), 1))
    assert block.nbytes == block.matrix.nbytes
    buffers = set()
    for seq in range(1001, 3001):
        block.append(stored(np.ones((1, DIM)), seq))
        buffers.add(block.nbytes)
    assert len(buffers) == 5  # 1.25 ** 5 > 3


def test_a_view_taken_before_stays_as_it_was() -> None:
    block = Block(DIM, (1, None))
    block.append(stored(np.zeros((4, DIM)), 1))
    before = block.matrix
    block.append(stored(np.ones((2, DIM)), 5))
    assert before.shape == (4, DIM)
    assert not before.any()
