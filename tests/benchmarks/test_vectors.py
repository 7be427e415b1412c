"""Logic of the vector benchmarks, and a small run of our store with a peer that is not installed."""

import numpy as np


def test_recall_is_the_share_of_the_exact_nearest_and_ties_count() -> None:
    import vector_data

    vectors = np.array([[1, 0], [0.8, 0.6], [0.8, 0.6], [0, 1]], np.float32)
    query = np.array([1, 0], np.float32)
    assert vector_data.recall(vectors, query, [0, 1], top_k=2) == 1
    assert vector_data.recall(vectors, query, [0, 2], top_k=2) == 1
    assert vector_data.recall(vectors, query, [0, 3], top_k=2) == 0.5
    assert vector_data.recall(vectors, query, [0, 0], top_k=2) == 0.5
    assert vector_data.recall(vectors, query, [], top_k=2) == 0
    assert vector_data.recall(vectors, query, [0, 1, 2, 3], top_k=10) == 1
