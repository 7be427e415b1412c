"""Pictures of the server's figures show what they were given: every bound, the right bucket, each stage's numbers."""

from collections.abc import Iterator

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from bankllm.lab import metrics_plots, plots


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_the_histogram_has_a_point_at_each_bound_and_the_quantiles_bucket_is_shaded() -> None:
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
    # Spread evenly inside a bucket: a line in ms, and so a curve on the log axis.
    assert np.interp(17.5, x, y) == pytest.approx(0.35, abs=0.005)


def test_stages_show_mean_and_p95_and_no_mark_without_one() -> None:
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
