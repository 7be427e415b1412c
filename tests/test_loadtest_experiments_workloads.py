"""The workloads differ in how often a text comes, and in nothing else."""

from collections import Counter

import pytest

from bankllm.errors import UsageError
from bankllm.loadtest.experiments.workloads import ZIPF_TEXTS, workloads

TEXTS = [f"question {'x' * n}" for n in range(500)]


def test_cold_and_warm_are_the_same_texts_and_come_in_that_order() -> None:
    found = workloads(TEXTS)
    assert list(found) == ["cold", "warm", "zipf", "repeated"]
    assert found["cold"] == found["warm"] == TEXTS
    assert found == workloads(TEXTS)
    assert found["zipf"] != workloads(TEXTS, seed=1)["zipf"]


def test_zipf_has_favourites_by_the_law() -> None:
    counts = Counter(workloads(TEXTS)["zipf"]).most_common()
    assert len(counts) <= ZIPF_TEXTS
    expected = 4096 / sum(1 / rank for rank in range(1, ZIPF_TEXTS + 1))
    assert counts[0][1] == pytest.approx(expected, rel=0.1)
    assert counts[1][1] == pytest.approx(expected / 2, rel=0.15)


def test_the_repeated_text_is_of_middling_length() -> None:
    (text,) = workloads(TEXTS)["repeated"]
    assert text == TEXTS[250]


def test_few_texts_will_do_and_none_will_not() -> None:
    assert set(workloads(["a", "bb", "ccc"])["zipf"]) == {"a", "bb", "ccc"}
    with pytest.raises(UsageError, match="Expected texts to ask with; found none"):
        workloads([])
