"""Plots of load tests show their input: the opening wave, the knee, the objective and every run."""

from functools import partial

import numpy as np
import pytest

from bankllm.lab import load_plots, plots
from bankllm.loadtest.experiments.rate_sweep import Step, knee_of, sweep
from tests.support.drawn import legend
from tests.support.queue_model import open_loop, row


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return sweep(partial(open_loop, capacity=200), first_rate=50, step_s=5, max_steps=7, max_s=1e9)


def test_closed_and_open_loop_have_the_same_scale() -> None:
    _, axes = plots.new_figure(columns=2)
    load_plots.closed_and_open(axes, {"ab": [10, 20, 30]}, {"from due": [10, 400, 900], "from sent": [10, 15, 20]})
    left, right = axes
    assert left.get_xlim() == right.get_xlim()
    assert left.get_xlim()[0] <= 10 < 900 <= left.get_xlim()[1]
    assert legend(right) == ["from due", "from sent"]


def test_the_opening_wave_is_shaded_to_its_last_reply() -> None:
    rows = [row(kind="chat", phase="opening", sent_s=0.1 * n, done_s=1 + 0.1 * n, latency_ms=1000) for n in range(5)]
    rows += [row(kind=kind, phase="steady", sent_s=2, done_s=2.1, latency_ms=100) for kind in ("chat", "health")]
    _, (axis,) = plots.new_figure()
    load_plots.over_time(axis, rows, "Locust")
    (shade,) = axis.patches
    assert shade.get_x() == 0
    assert shade.get_width() == pytest.approx(1.4)
    assert legend(axis) == ["chat", "health", "opening wave"]
    load_plots.over_time(plots.new_figure()[1][0], rows[5:], "without a wave")


def test_the_sweep_marks_its_knee_and_leaves_out_invalid_steps(steps: list[Step]) -> None:
    knee = knee_of(steps)
    invalid = Step(900, open_loop(900, 200, generator_limit=1))
    _, axes = plots.new_figure(columns=2)
    load_plots.throughput_sweep(axes[0], [invalid, *steps], "Rates")
    load_plots.latency_sweep(axes[1], {"chat": [invalid, *steps]}, "p95")
    rates = sorted(step.rate for step in steps)
    _, answered, good, mark = axes[0].lines
    assert list(answered.get_xdata()) == list(good.get_xdata()) == rates
    assert np.all(np.asarray(good.get_ydata()) <= np.asarray(answered.get_ydata()))
    assert set(mark.get_xdata()) == {knee}
    assert [text.get_text() for text in axes[0].texts] == [f"knee: {knee:g}/s "]
    assert legend(axes[1]) == [f"chat: knee {knee:g}/s"]
    assert [list(line.get_ydata()) for line in axes[1].lines][-1] == [500, 500]


def test_the_histogram_has_a_point_per_bound_and_the_bucket_of_the_quantile_is_shaded() -> None:
    bounds, counts = (10, 25, 50, 100), (10, 60, 97, 100)
    buckets = [{"le_ms": float(bound), "requests": n} for bound, n in zip(bounds, counts, strict=True)]
    buckets.append({"le_ms": "+Inf", "requests": 100})  # type: ignore[dict-item]
    _, [axis] = plots.new_figure()
    load_plots.histogram_over_rows(axis, buckets, [8.0, 20.0, 30.0, 60.0], 0.95, "seen twice")
    [shade] = axis.patches
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (25, 50)  # type: ignore[attr-defined]
    *_, between, points = axis.get_lines()
    assert list(zip(*points.get_data(), strict=True)) == [(10, 0.1), (25, 0.6), (50, 0.97), (100, 1.0)]
    # A uniform distribution within a bucket is a straight line in ms, and a curve on the log axis.
    assert np.interp(17.5, *between.get_data()) == pytest.approx(0.35, abs=0.005)


def test_a_stage_shows_its_mean_and_a_mark_only_with_a_p95() -> None:
    rows = [
        {"stage": "queue", "chats": 9, "mean_ms": 2.0, "p95_ms": 7.5},
        {"stage": "encode", "chats": 9, "mean_ms": 16.0, "p95_ms": None},
    ]
    _, [axis] = plots.new_figure()
    load_plots.stage_times(axis, rows, "stages")
    assert [bar.get_width() for bar in axis.patches] == [2.0, 16.0]  # type: ignore[attr-defined]
    assert [text.get_text() for text in axis.texts] == ["2.00 / 7.5", "16.00"]
    marks = np.array(axis.get_lines()[0].get_xdata(), dtype=float)
    assert marks[0] == 7.5
    assert np.isnan(marks[1])
    assert axis.yaxis_inverted()
