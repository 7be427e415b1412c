"""Plots show their input and are readable: names do not overlap, and series differ not only in colour."""

import numpy as np
import pytest

from bankllm.lab import plots
from tests.support.drawn import legend

MIB = 2**20
POINTS = {
    "probe": (4.2, 92.2, 180 * MIB),
    "LoRA r=4": (88, 93.3, 820 * MIB),
    "LoRA r=8": (90, 93.6, 830 * MIB),
    "LoRA r=16": (94, 93.7, 850 * MIB),
    "LoRA r=32": (101, 93.65, 900 * MIB),
    "QLoRA r=8": (205, 93.3, 700 * MIB),
    "QLoRA r=16": (210, 93.4, 720 * MIB),
    "full": (160, 93.9, 1500 * MIB),
}


def test_the_frontier_has_the_points_that_no_faster_point_surpasses() -> None:
    _, (axis,) = plots.new_figure()
    plots.cost_frontier(axis, POINTS, title="What accuracy costs")
    (steps,) = axis.lines
    best = ("probe", "LoRA r=4", "LoRA r=8", "LoRA r=16", "full")
    assert list(zip(*steps.get_data(), strict=True)) == [POINTS[name][:2] for name in best]
    areas = {name: dot.get_sizes()[0] for name, dot in zip(POINTS, axis.collections, strict=True)}
    assert areas["full"] > areas["LoRA r=32"] > areas["LoRA r=4"] > areas["probe"] > 0
    assert legend(axis) == [f"{number}: {name}" for number, name in enumerate(POINTS, start=1)]
    assert [text.get_text() for text in axis.texts] == [str(number) for number in range(1, len(POINTS) + 1)]


def test_accuracy_by_rank_shows_intervals_seeds_and_levels() -> None:
    figure, (axis,) = plots.new_figure()
    series = {
        "LoRA": {8: (93.6, 92.7, 94.4), 4: (93.3, 92.4, 94.1), 16: (93.8, 92.9, 94.6)},
        "QLoRA": {8: (93.2, 92.3, 94)},
    }
    plots.accuracy_by_rank(
        axis, series, title="Rank", levels={"probe": 92.2, "full": 93.9}, seeds={"LoRA": {8: [93.5, 93.7]}}
    )
    figure.draw_without_rendering()
    assert set(legend(axis)) == {"LoRA", "QLoRA", "probe, 92.2 %", "full, 93.9 %"}
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["4", "8", "16"]
    assert list(axis.containers[0].lines[0].get_ydata()) == [93.3, 93.6, 93.8]
    ends = np.array([segment[:, 1] for segment in axis.containers[0].lines[2][0].get_segments()])
    assert ends == pytest.approx(np.array([[92.4, 94.1], [92.7, 94.4], [92.9, 94.6]]))
    assert any(list(line.get_ydata()) == [93.5, 93.7] for line in axis.lines)
    styles = {container.lines[0].get_linestyle() for container in axis.containers}
    assert len(styles) == 2  # the series differ without colour


def test_accuracy_by_rank_shows_levels_alone() -> None:
    figure, (axis,) = plots.new_figure()
    plots.accuracy_by_rank(axis, {}, title="Rank", levels={"probe": 92.2})
    figure.draw_without_rendering()
    assert legend(axis) == ["probe, 92.2 %"]
