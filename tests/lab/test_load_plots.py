"""Plots of load tests show their input: the opening wave, the knee, the objective and every run."""

from functools import partial

import numpy as np
import pytest

from bankllm.lab import load_plots, plots
from bankllm.loadtest.experiments.rate_sweep import Step, knee_of, sweep
from tests.support.drawn import legend
from tests.support.queue_model import open_loop, row


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


def test_the_sweep_marks_its_knee_and_leaves_out_invalid_steps() -> None:
    steps = sweep(partial(open_loop, capacity=200), first_rate=50, step_s=5, max_steps=7, max_s=1e9)
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
