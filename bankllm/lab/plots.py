"""Shared plots and style: units on every axis, and series that differ not only in colour."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

PlotRows = Sequence[Mapping[str, Any]]
"""Rows of a table that a plot draws: column name → value."""
Interval = tuple[float, float, float]
"""Value, lower and upper end of its 95 % interval."""
BLUE, ORANGE, GREEN, PURPLE, GREY = "#2563a8", "#c2571a", "#2f7d4f", "#7a4f9e", "#6b7280"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, GREY)


def style(number: int, *, marker: bool = False) -> dict[str, Any]:
    """Return colour, line and marker of a series, which also differ without colour."""
    line = {"color": PALETTE[number % 5], "linestyle": ("-", "--", "-.", ":")[number % 4]}
    return line | ({"marker": "os^D"[number % 4]} if marker else {})


def new_figure(width: float = 7.2, height: float = 3.6, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure with `columns` axes side by side, in the common style."""
    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, layout="constrained", dpi=110)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e5e7eb")
        axis.set_axisbelow(True)
    return figure, list(axes[0])


def label(axis: Axes, title: str, x: str, y: str = "") -> None:
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axis.set(xlabel=x, ylabel=y)


def legend(axis: Axes, **place: Any) -> None:
    axis.legend(frameon=False, **{"loc": "best", "fontsize": 9, **place})


def legend_below(axis: Axes) -> None:
    legend(axis, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)


def log_ticks(*scales: Axis) -> None:
    """Label log axes with plain numbers at 1, 2 and 5 of each decade, or only at 1 if there are many decades."""
    for scale in scales:
        low, high = scale.get_view_interval()
        scale.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
        scale.set_major_formatter("{x:g}")
        scale.set_minor_formatter(NullFormatter())


def bars(axis: Axes, values: Mapping[str, float], *, title: str, unit: str, decimals: int = 1) -> None:
    """Draw horizontal bars from 0 with their values."""
    numbers = [f"{value:,.{decimals}f}" for value in values.values()]
    stacked_bars(axis, list(values), {"": list(values.values())}, numbers)
    label(axis, title, unit)


def stacked_bars(
    axis: Axes, names: Sequence[str], parts: Mapping[str, Sequence[float]], numbers: Sequence[str] = ()
) -> None:
    """Draw one horizontal bar per name, of one or two parts (legend text → lengths), with numbers at the ends."""
    ends = np.zeros(len(names))
    hatched: dict[str, Any] = {"color": "white", "edgecolor": ORANGE, "hatch": "////"}
    for text, lengths in parts.items():
        look = hatched if ends.any() else {"color": BLUE}
        visible = np.where(np.equal(lengths, 0), np.nan, lengths)  # a bar of length 0 would show its edge
        drawn = axis.barh(names, visible, left=ends, height=0.6, label=text, **look)
        ends = ends + np.asarray(lengths)
    if len(numbers):
        axis.bar_label(drawn, numbers, padding=5, fontsize=9)
    axis.set_xlim(0, 1.25 * max(ends, default=0) or 1)
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    if len(parts) > 1:
        legend(axis, loc="lower right")


def lines(axis: Axes, frame: pd.DataFrame, title: str) -> None:
    """Draw one line per column against the index, whose name is the label of the x-axis."""
    for number, column in enumerate(frame):
        axis.plot(frame.index, frame[column], label=column, **style(number, marker=True))
    label(axis, title, str(frame.index.name or ""))
    axis.set_ylim(bottom=0)
    legend_below(axis)


def latency_distribution(axis: Axes, series: Mapping[str, Sequence[float]], title: str) -> None:
    """Draw empirical distribution functions of latencies in ms on a log axis, with dotted lines at p50 and p95."""
    for number, (name, values) in enumerate(series.items()):
        axis.ecdf(np.asarray(values, dtype=float), label=name, **style(number))
    label(axis, title, "latency (ms)", "share of requests")
    axis.set(xscale="log", ylim=(0, 1.02))
    log_ticks(axis.xaxis)
    for share in (0.5, 0.95):
        axis.axhline(share, color=GREY, linestyle=":", linewidth=1)
        axis.annotate(f"p{share * 100:.0f}", (1, share), xycoords=("axes fraction", "data"), va="center", color=GREY)
    legend(axis)


def accuracy_by_rank(
    axis: Axes,
    series: Mapping[str, Mapping[int, Interval]],
    *,
    title: str,
    levels: Mapping[str, float] | None = None,
    seeds: Mapping[str, Mapping[int, Sequence[float]]] | None = None,
) -> None:
    """Draw accuracy in % against the LoRA rank on a log₂ axis, one series per method.

    `levels` are methods without a rank (horizontal lines), `seeds` the accuracies of single trainings (faint points).
    """
    ranks = sorted({rank for points in series.values() for rank in points})
    for number, (name, points) in enumerate(series.items()):
        aside = 2 ** (0.07 * (number - (len(series) - 1) / 2))  # side by side, so that they do not overlap
        x, (value, low, high) = aside * np.array(sorted(points)), np.array([points[rank] for rank in sorted(points)]).T
        look = style(number, marker=True)
        axis.errorbar(x, value, (value - low, high - value), label=name, capsize=3, **look)
        for position, rank in zip(x, sorted(points), strict=True):
            trained = (seeds or {}).get(name, {}).get(rank, ())
            axis.plot([1.025 * position] * len(trained), trained, ".", color=look["color"], alpha=0.5, markersize=5)
    for number, (name, level) in enumerate((levels or {}).items()):
        look = {"color": GREY, "linestyle": ("-.", ":")[number % 2], "linewidth": 1.2}
        axis.axhline(level, label=f"{name}, {level:.1f} %", **look)
    label(axis, title, "rank r (log₂)", "test accuracy (%; bar: 95 % interval)")
    axis.set_xscale("log", base=2)
    axis.set_xticks(ranks, [str(rank) for rank in ranks])
    if ranks:  # levels alone have none
        axis.set_xlim(min(ranks) / 1.3, max(ranks) * 1.3)
    legend_below(axis)


def cost_frontier(axis: Axes, points: Mapping[str, Interval], *, title: str) -> None:
    """Draw accuracy in % against training time in s, with the Pareto frontier; `points` are (seconds, accuracy, bytes).

    The area of a marker is the peak memory.
    """
    largest = max(size for _, _, size in points.values())
    frontier: list[tuple[float, float]] = []
    for seconds, accuracy, _ in sorted(points.values(), key=lambda point: (point[0], -point[1])):
        if not frontier or accuracy > frontier[-1][1]:
            frontier.append((seconds, accuracy))
    for number, (name, (seconds, accuracy, size)) in enumerate(points.items(), start=1):
        fill = "#9dbde3" if (seconds, accuracy) in frontier else "#e5e7eb"
        area, text = 90 + 500 * size / largest, f"{number}: {name}"
        axis.scatter(seconds, accuracy, s=area, color=fill, edgecolor=GREY, alpha=0.85, zorder=3, label=text)
        axis.annotate(str(number), (seconds, accuracy), ha="center", va="center", fontsize=8, zorder=4)
    axis.step(*zip(*frontier, strict=True), where="post", color=BLUE, linewidth=1, linestyle="--", zorder=2)
    note = f"marker area: peak memory, at most {largest / 2**20:,.0f} MiB; blue: on the frontier"
    label(axis, title, f"training time (s)\n{note}", "test accuracy (%)")
    axis.set_xscale("log")
    axis.margins(0.14, 0.2)
    log_ticks(axis.xaxis)
    legend(axis, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=0, markerscale=0)


def confused_pairs(axis: Axes, pairs: Sequence[Mapping[str, object]], *, title: str) -> None:
    """Draw how often each of two intents was predicted as the other (`training.evaluate.confused_pairs`)."""
    names = [f"{pair['intent_a']} → {pair['intent_b']}" for pair in pairs]
    forth, back = ([int(str(pair[key])) for pair in pairs] for key in ("a_as_b", "b_as_a"))
    stacked_bars(axis, names, {"as written →": forth} | ({"back ←": back} if any(back) else {}))
    label(axis, title, "test texts")
    axis.tick_params(axis="y", labelsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def risk_coverage(axis: Axes, series: Mapping[str, Sequence[Mapping[str, object]]], *, title: str) -> None:
    """Draw the error rate against the share of texts answered, from 5 %, where one error has less effect."""
    for number, (name, rows) in enumerate(series.items()):
        surest = sorted(rows, key=lambda row: -float(str(row["confidence"])))
        answered = np.arange(1, len(surest) + 1)
        errors = np.cumsum([row["predicted"] != row["actual"] for row in surest])
        x, y = 100 * answered / len(surest), 100 * errors / answered
        axis.plot(x[x >= 5], y[x >= 5], label=name, **style(number))
    label(axis, title, "texts answered, most confident first (%)", "errors among them (%)")
    axis.set_xlim(0, 100)
    axis.set_ylim(bottom=0)
    legend(axis, loc="upper left")


def losses(axis: Axes, series: Mapping[str, Any], *, title: str) -> None:
    """Draw the training loss against the step; tables with the columns `step` and `loss`."""
    for number, (name, rows) in enumerate(series.items()):
        axis.plot(rows["step"], rows["loss"], label=name, **style(number, marker=True))
    label(axis, title, "step", "loss (mean of the last steps)")
    axis.set_ylim(bottom=0)
    legend(axis)


def accuracy_over_time(axis: Axes, series: Mapping[str, Sequence[Mapping[str, object]]], *, title: str) -> None:
    """Draw accuracy in % against training time in s, with a marker at the start; rows of `TrainResult.curve`."""
    for number, (name, rows) in enumerate(series.items()):
        seconds, accuracy = (np.array([float(str(row[key])) for row in rows]) for key in ("seconds", "accuracy"))
        text, look = f"{name}: {100 * accuracy[0]:.1f} → {100 * accuracy[-1]:.1f} %", style(number, marker=True)
        axis.plot(seconds, 100 * accuracy, label=text, markevery=[0], markersize=8, **look)
    label(axis, title, "training time (s; marker: before the first step)", "validation accuracy (%)")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    legend(axis, loc="lower right")
