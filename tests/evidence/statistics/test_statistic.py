"""The registry of statistics, and Student's t."""

import inspect

import pytest
from scipy import stats

from bankllm.evidence.statistics.samples import percentile
from bankllm.evidence.statistics.statistic import STATISTICS, T95


def test_no_rows_give_no_value_except_a_count() -> None:
    reasons = {name: STATISTICS.get(name)([]).invalid_because for name in STATISTICS}
    assert reasons.pop("count") is None
    assert set(reasons.values()) == {"no rows"}


def test_a_registered_statistic_is_its_function_with_the_facts_for_comparison() -> None:
    found = STATISTICS.get("percentile")
    assert found is percentile
    assert list(inspect.signature(found).parameters) == ["rows", "column", "q"]
    assert (found.unit, found.better, found.tolerance) == ("column", None, 1.5)
    assert STATISTICS.get("aurc").better == "lower"


def test_students_t_agrees_with_scipy() -> None:
    assert stats.t.ppf(0.975, range(1, 31)) == pytest.approx(T95, rel=1e-12)
