"""Plots of the server's metrics show their input: every bound, the bucket of the quantile, and each stage."""

from collections.abc import Iterator

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from bankllm.lab import metrics_plots, plots


@pytest.fixture(autouse=True)
def close_figures() -> Iterator[None]:
    yield
    plt.close("all")


def test_the_histogram_has_a_point_per_bound_and_the_bucket_of_the_quantile_is_shaded() -> None:
    bounds, counts = (10, 25, 50, 100), (10, 60, 97, 100)
    buckets = [{"le_ms": float(bound), "requests": n} for bound, n in zip(bounds, counts, strict=True)]
    buckets.append({"le_ms": "+Inf", "requests": 100})  # type: ignore[dict-item]
    _, [axis] = plots.new_figure()
    metrics_plots.histogram_over_rows(axis, buckets, [8.0, 20.0, 30.0, 60.0], 0.95, "seen twice")
    [shade] = axis.patches
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (25, 50)  # type: ignore[attr-defined]
    line = axis.get_lines()[-1]
    x, y = np.array(line.get_xdata()), np.array(line.get_ydata())
    marked = line.get_markevery()
    assert x[marked].tolist() == [10, 25, 50, 100]
    assert y[marked].tolist() == [0.1, 0.6, 0.97, 1.0]
    # A uniform distribution within a bucket is a straight line in ms, and a curve on the log axis.
    assert np.interp(17.5, x, y) == pytest.approx(0.35, abs=0.005)


def test_a_stage_shows_its_mean_and_a_mark_only_with_a_p95() -> None:
    rows = [
        {"stage": "queue", "chats": 9, "mean_ms": 2.0, "p95_ms": 7.5},
        {"stage": "encode", "chats": 9, "mean_ms": 16.0, "p95_ms": None},
    ]
    _, [axis] = plots.new_figure()
    metrics_plots.stage_times(axis, rows, "stages")
    assert [bar.get_width() for bar in axis.patches] == [2.0, 16.0]  # type: ignore[attr-defined]
    assert [text.get_text() for text in axis.texts] == ["2.00 / 7.5", "16.00"]
    marks = np.array(axis.get_lines()[0].get_xdata(), dtype=float)
    assert marks[0] == 7.5
    assert np.isnan(marks[1])
    assert axis.yaxis_inverted()
