"""The registry of statistics, and what they share: Student's t, and no package but the standard library."""

import csv
import inspect
import io
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats

from bankllm.evidence.statistics.samples import percentile, single
from bankllm.evidence.statistics.statistic import STATISTICS, t95


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


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 30, 101])
def test_students_t_agrees_with_scipy(freedom: int) -> None:
    assert t95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)


def test_students_t_needs_a_degree_of_freedom() -> None:
    with pytest.raises(ValueError, match="1 degree of freedom or more, found 0"):
        t95(0)


def test_the_statistics_need_only_the_standard_library() -> None:
    """Python without site-packages (-S) can import the statistics and compute one."""
    code = "from bankllm.evidence.statistics.statistic import STATISTICS as s; print(s.get('count')([{}]).value)"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_a_float_is_unchanged_after_writing_and_reading_csv() -> None:
    """verify compares values that were written to CSV, so reading the shortest repr must give the same float."""
    value = 0.1 + 0.2
    buffer = io.StringIO()
    csv.writer(buffer).writerow([value])
    assert single([{"x": buffer.getvalue().strip()}], "x").value == value
