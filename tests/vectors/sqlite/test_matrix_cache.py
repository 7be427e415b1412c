"""In-memory matrices of a namespace: appending rows, snapshots, nearest rows, and the cache of blocks."""

import numpy as np
import pytest

from bankllm.vectors.sqlite import matrix_cache
from bankllm.vectors.sqlite.matrix_cache import Block, BlockCache, top_positions

DIM = 3


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(matrix_cache, "SEGMENT_ROWS", 100)
    return 100


def random_vectors(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, DIM)).astype(np.float32)


def filled(vectors: np.ndarray, sizes: tuple[int, ...] = ()) -> Block:
    block, done = Block(DIM, (10, None)), 0
    for size in sizes or (len(vectors),):
        block.append(range(10 + done, 10 + done + size), vectors[done : done + size])
        done += size
    return block


def matrix(block: Block) -> np.ndarray:
    return np.concatenate([np.empty((0, DIM)), *block.snapshot().segments])


def test_an_empty_block_has_no_rows() -> None:
    block = Block(DIM, (None, None))
    assert (len(block), block.nbytes, block.last_seq, block.snapshot().segments) == (0, 0, 0, ())
    assert block.snapshot().nearest(np.ones(DIM, np.float32), 5) == ([], [])


@pytest.mark.parametrize("sizes", [(5,), (1, 1, 1, 1, 1), (4, 1, 300, 2), (100, 30), (100, 100), (250,)])
def test_rows_stay_in_order_for_all_batch_sizes(sizes: tuple[int, ...], small_segments: int) -> None:
    vectors = random_vectors(sum(sizes))
    for n in range(1, len(sizes) + 1):
        block, count = filled(vectors, sizes[:n]), sum(sizes[:n])
        np.testing.assert_array_equal(matrix(block), vectors[:count])
        assert list(block.seqs) == list(range(10, 10 + count))
        assert (len(block), block.last_seq) == (count, 9 + count)
        assert vectors[:count].nbytes <= block.nbytes <= 1.25 * vectors[:count].nbytes


def test_growing_copies_few_rows_and_never_a_full_segment(small_segments: int) -> None:
    block = filled(random_vectors(20))
    buffers = set()
    for seq in range(30, 230):
        block.append([seq], np.ones((1, DIM), np.float32))
        buffers.add(block.nbytes)
    assert len(buffers) < 25
    first = block.snapshot().segments[0]
    block.append(range(230, 500), np.ones((270, DIM), np.float32))
    assert block.snapshot().segments[0] is first


def test_reserved_space_is_filled_without_copying(small_segments: int) -> None:
    block = Block(DIM, (10, None))
    for start in range(0, 300, 20):
        if block.spare < 20:
            block.reserve(300 - start)
        before = block.nbytes
        block.append(range(start, start + 20), np.full((20, DIM), start, np.float32))
        assert block.nbytes == before
    assert block.nbytes == 300 * DIM * 4
    assert matrix(block)[::20, 0].tolist() == list(range(0, 300, 20))


def test_a_snapshot_is_immutable(small_segments: int) -> None:
    block = filled(np.zeros((4, DIM), np.float32))
    before = block.snapshot()
    block.append(range(14, 164), np.ones((150, DIM), np.float32))
    assert len(before) == 4
    assert before.nearest(np.ones(DIM, np.float32), 9) == ([10, 11, 12, 13], [0, 0, 0, 0])


@pytest.mark.parametrize("top_k", [1, 10, 249, 250, 1000])
def test_the_nearest_rows_equal_those_of_a_single_matrix_product(top_k: int, small_segments: int) -> None:
    vectors, query = random_vectors(250), np.ones(DIM, np.float32)
    seqs, scores = filled(vectors).snapshot().nearest(query, top_k)
    wanted = np.argsort(-(vectors @ query), kind="stable")[:top_k]
    assert seqs == (wanted + 10).tolist()
    np.testing.assert_allclose(scores, (vectors @ query)[wanted], rtol=1e-6)


def test_ties_keep_their_order_for_every_top_k() -> None:
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.5, 0.9], np.float32)
    assert [top_positions(scores, k) for k in (1, 2, 3, 4, 6, 9)] == [
        [1],
        [1, 5],
        [1, 5, 0],
        [1, 5, 0, 2],
        [1, 5, 0, 2, 4, 3],
        [1, 5, 0, 2, 4, 3],
    ]


def test_the_cache_evicts_the_least_recently_used_block() -> None:
    cache = BlockCache(3 * 5 * DIM * 4)
    for name in "abc":
        cache.put(name, filled(random_vectors(5)))
    a = cache.take("a")
    assert a is not None
    assert cache.nbytes == 2 * a.nbytes
    cache.put("a", a)
    cache.put("d", filled(random_vectors(5)))
    assert list(cache.blocks) == ["c", "a", "d"]
    cache.put("large", filled(random_vectors(100)))
    assert (list(cache.blocks), cache.nbytes) == (["large"], 100 * DIM * 4)
    cache.put("empty", Block(DIM, (None, None)))
    assert cache.take("empty") is None
