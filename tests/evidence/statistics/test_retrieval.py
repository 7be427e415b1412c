"""Statistics of rankings, compared with scikit-learn, SciPy, and cases computed by hand."""

import random

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import ndcg_score

from bankllm.evidence.statistics import retrieval as s
from tests.support.text_rows import text_rows

BY_HAND = text_rows(found=["1 3", "2", "", "7"], relevant=["2", "1", "1", "1"])


def test_recall_and_reciprocal_rank_of_rankings_by_hand() -> None:
    assert [s.recall_at(BY_HAND, "found", k).value for k in (1, 2, 6, 10)] == [0.25, 0.5, 0.5, 0.75]
    assert s.reciprocal_rank(BY_HAND, "found").value == pytest.approx((1 + 1 / 2 + 0 + 1 / 7) / 4)


def test_ndcg_agrees_with_scikit_learn() -> None:
    draw = random.Random(4)
    right = [[draw.random() < 0.3 for _ in range(30)] for _ in range(40)]  # in the order of the search
    right = [row for row in right if any(row)]
    found = [" ".join(str(place) for place, is_right in enumerate(row[:10], 1) if is_right) for row in right]
    rows = text_rows(found=found, relevant=[str(sum(row)) for row in right])
    expected = ndcg_score(np.array(right, float), [list(range(30, 0, -1))] * len(right), k=10)
    estimate = s.ndcg(rows, "found")
    assert estimate.value == pytest.approx(expected)
    assert estimate.ci95 is not None
    assert estimate.ci95[0] < expected < estimate.ci95[1]


def test_a_paired_difference_has_an_interval_and_scipys_p_value() -> None:
    draw = random.Random(5)
    places = [[str(draw.randint(1, 6)), str(draw.randint(1, 8))] for _ in range(60)]
    rows = text_rows(a=[a for a, _ in places], b=[b for _, b in places], relevant=["1"] * 60)
    gains = [[1 / np.log2(1 + int(place)) for place in pair] for pair in places]
    difference = np.diff(gains)[:, 0] * -1
    estimate = s.ndcg_difference(rows, "a", "b")
    assert estimate.value == pytest.approx(difference.mean())
    expected = stats.permutation_test((difference,), np.sum, permutation_type="samples", rng=np.random.default_rng(0))
    assert s.ndcg_permutation(rows, "a", "b").value == pytest.approx(expected.pvalue, abs=0.02)


def test_equal_rankings_do_not_differ() -> None:
    assert s.ndcg_difference(BY_HAND, "found", "found").value == 0
    assert s.ndcg_permutation(BY_HAND, "found", "found").value == 1
