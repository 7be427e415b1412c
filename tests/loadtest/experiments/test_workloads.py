"""The workloads differ only in how often a text repeats."""

from collections import Counter

import pytest

from bankllm.errors import UsageError
from bankllm.loadtest.experiments.workloads import ZIPF_TEXTS, workloads

TEXTS = [f"question {'x' * n}" for n in range(500)]


def test_cold_and_warm_are_the_same_texts_in_that_order() -> None:
    by_name = workloads(TEXTS)
    assert list(by_name) == ["cold", "warm", "zipf", "repeated"]
    assert by_name["cold"] == by_name["warm"] == TEXTS
    assert by_name == workloads(TEXTS)
    assert list(by_name["repeated"]) == [TEXTS[250]]  # the median length
    assert by_name["zipf"] != workloads(TEXTS, seed=1)["zipf"]


def test_zipf_follows_zipfs_law() -> None:
    counts = Counter(workloads(TEXTS)["zipf"]).most_common()
    assert len(counts) <= ZIPF_TEXTS
    expected = 4096 / sum(1 / rank for rank in range(1, ZIPF_TEXTS + 1))
    assert counts[0][1] == pytest.approx(expected, rel=0.1)
    assert counts[1][1] == pytest.approx(expected / 2, rel=0.15)


def test_few_texts_are_accepted_and_none_is_an_error() -> None:
    assert set(workloads(["a", "bb", "ccc"])["zipf"]) == {"a", "bb", "ccc"}
    with pytest.raises(UsageError, match="Expected at least 1 text, found none"):
        workloads([])
