"""Shared plots and style: one palette, a light grid, units on every axis, and series that differ not only in colour."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PlotRows = Sequence[Mapping[str, Any]]
"""Rows of a table that a plot draws: column name → value."""
BLUE, ORANGE, GREEN, PURPLE, GREY = "#2563a8", "#c2571a", "#2f7d4f", "#7a4f9e", "#6b7280"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, GREY)
LINES = ("-", "--", "-.", ":")


def new_figure(width: float = 7.2, height: float = 3.6, columns: int = 1) -> "tuple[Figure, list[Axes]]":
    """Return a figure with `columns` axes side by side, in the common style. Global settings do not change."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, layout="constrained", dpi=110)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e5e7eb")
        axis.set_axisbelow(True)
    return figure, list(axes[0])


def label(axis: "Axes", title: str, x: str, y: str = "") -> None:
    """Set the title (left-aligned) and both axis labels. Labels include the unit."""
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axis.set(xlabel=x, ylabel=y)


def latency_distribution(axis: "Axes", series: Mapping[str, Sequence[float]], title: str) -> None:
    """Draw empirical distribution functions of latencies in ms on a log axis, with dotted lines at p50 and p95."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for number, (name, values) in enumerate(series.items()):
        ordered = np.sort(np.asarray(values, dtype=float))
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        colour, line = PALETTE[number % len(PALETTE)], LINES[number % len(LINES)]
        axis.step(ordered, shares, where="post", label=name, color=colour, linestyle=line)
    label(axis, title, "latency (ms)", "share of requests")
    axis.set(xscale="log", ylim=(0, 1.02))
    shortest, longest = axis.get_xlim()
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if longest < 200 * shortest else (1,)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    for share in (0.5, 0.95):
        axis.axhline(share, color=GREY, linestyle=":", linewidth=1)
        position = (1.0, share)
        axis.annotate(f"p{share * 100:.0f}", position, xycoords=("axes fraction", "data"), va="center", color=GREY)
    axis.legend(loc="best", frameon=False)


def bars(axis: "Axes", values: Mapping[str, float], *, title: str, unit: str, decimals: int = 1) -> None:
    """Draw horizontal bars from 0 with their values."""
    axis.barh(list(values), list(values.values()), color=BLUE, height=0.6)
    for row, value in enumerate(values.values()):
        axis.annotate(f"{value:,.{decimals}f}", (value, row), xytext=(5, 0), textcoords="offset points", va="center")
    label(axis, title, unit)
    axis.set_xlim(0, 1.18 * max(values.values(), default=0) or 1)
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")


def estimates(
    axis: "Axes", values: Mapping[str, tuple[float, float, float]], *, title: str, unit: str, decimals: int = 1
) -> None:
    """Draw (value, low, high) as points with their 95 % intervals. The axis does not start at 0."""
    for row, (value, low, high) in enumerate(values.values()):
        axis.plot((low, high), (row, row), color=GREY, linewidth=2)
        axis.plot(value, row, "o", color=BLUE, markersize=8)
        position, shift = (value, row), (0, 9)
        axis.annotate(f"{value:,.{decimals}f}", position, xytext=shift, textcoords="offset points", ha="center")
    label(axis, title, f"{unit} (line: 95 % interval)")
    axis.set_yticks(range(len(values)), list(values))
    axis.set_ylim(len(values) - 0.5, -0.6)
    axis.margins(x=0.15)


def accuracy_by_rank(
    axis: "Axes",
    series: Mapping[str, Mapping[int, tuple[float, float, float]]],
    *,
    title: str,
    levels: Mapping[str, float] | None = None,
    seeds: Mapping[str, Mapping[int, Sequence[float]]] | None = None,
) -> None:
    """Draw accuracy in % as (value, low, high) against the LoRA rank on a log₂ axis, one series per method.

    `levels` are methods without a rank, drawn as horizontal lines. `seeds` are the accuracies of single trainings,
    drawn as faint points.
    """
    ranks = sorted({rank for points in series.values() for rank in points})
    for number, (name, points) in enumerate(series.items()):
        colour, line, marker = _style(number)
        x = np.array(sorted(points)) * 2 ** (
            0.07 * (number - (len(series) - 1) / 2)
        )  # side by side, so that they do not overlap
        value, low, high = np.array([points[rank] for rank in sorted(points)]).T
        axis.errorbar(
            x, value, (value - low, high - value), label=name, color=colour, linestyle=line, marker=marker, capsize=3
        )
        for position, rank in zip(x, sorted(points), strict=True):
            seed_values = (seeds or {}).get(name, {}).get(rank, ())
            axis.plot([1.025 * position] * len(seed_values), seed_values, ".", color=colour, alpha=0.5, markersize=5)
    for number, (name, value) in enumerate((levels or {}).items()):
        axis.axhline(value, color=GREY, linestyle=LINES[2 + number % 2], linewidth=1.2, label=f"{name}, {value:.1f} %")
    label(axis, title, "rank r (log₂)", "test accuracy (%; bar: 95 % interval)")
    axis.set_xscale("log", base=2)
    axis.set_xticks(ranks, [str(rank) for rank in ranks])
    axis.set_xlim(min(ranks) / 1.3, max(ranks) * 1.3)
    handles, names = axis.get_legend_handles_labels()
    order = np.roll(np.arange(len(names)), len(series))  # matplotlib lists lines before error bars
    ordered = [handles[i] for i in order], [names[i] for i in order]
    axis.legend(*ordered, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def cost_frontier(axis: "Axes", points: Mapping[str, tuple[float, float, float]], *, title: str) -> None:
    """Draw accuracy in % against training time in s on a log axis; the area of a marker is the peak memory.

    `points` are (seconds, accuracy, bytes). The stepped line is the Pareto frontier: points with a higher accuracy than
    every faster point.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    largest = max(size for _, _, size in points.values())
    areas = [30 + 500 * size / largest for _, _, size in points.values()]
    frontier: list[tuple[float, float]] = []
    for seconds, accuracy, _ in sorted(points.values(), key=lambda point: (point[0], -point[1])):
        if not frontier or accuracy > frontier[-1][1]:
            frontier.append((seconds, accuracy))
    axis.set_xscale("log")
    axis.margins(0.14, 0.2)
    for (seconds, accuracy, _), area in zip(points.values(), areas, strict=True):
        fill = BLUE if (seconds, accuracy) in frontier else "#d1d5db"
        axis.scatter(seconds, accuracy, s=area, color=fill, edgecolor=GREY, alpha=0.85, zorder=3)
    axis.step(*zip(*frontier, strict=True), where="post", color=BLUE, linewidth=1, linestyle="--", zorder=2)
    note = f"marker area: peak memory, at most {largest / 2**20:,.0f} MiB; dark: on the frontier"
    label(axis, title, f"training time (s)\n{note}", "test accuracy (%)")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    places = {name: (seconds, accuracy) for name, (seconds, accuracy, _) in points.items()}
    _label_apart(axis, places, [np.sqrt(area) / 2 for area in areas])


def confused_pairs(axis: "Axes", pairs: Sequence[Mapping[str, object]], *, title: str) -> None:
    """Draw how often each of two intents was predicted as the other (`training.evaluate.confused_pairs`)."""
    from matplotlib.ticker import MaxNLocator

    names = [f"{pair['intent_a']} → {pair['intent_b']}" for pair in pairs]
    forth, back = (np.array([int(str(pair[key])) for pair in pairs]) for key in ("a_as_b", "b_as_a"))
    axis.barh(names, forth, color=BLUE, height=0.65, label="as written →")
    both = np.flatnonzero(back)
    if len(both):
        look: dict[str, Any] = {"color": "white", "edgecolor": ORANGE, "hatch": "////"}
        axis.barh(both, back[both], left=forth[both], height=0.65, label="back ←", **look)
        axis.legend(loc="lower right", frameon=False)
    label(axis, title, "test texts")
    axis.set_ylim(len(pairs) - 0.4, -0.6)
    axis.tick_params(axis="y", labelsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(visible=False, axis="y")


def risk_coverage(axis: "Axes", series: Mapping[str, Sequence[Mapping[str, object]]], *, title: str) -> None:
    """Draw the error rate against the share of texts answered, most confident first; rows of `TrainResult.predictions`.

    A curve starts at 5 % answered, because a single error has a large effect below that.
    """
    for number, (name, rows) in enumerate(series.items()):
        colour, line, _ = _style(number)
        surest = sorted(rows, key=lambda row: -float(str(row["confidence"])))
        errors = np.cumsum([row["predicted"] != row["actual"] for row in surest])
        answered = np.arange(1, len(surest) + 1)
        x, y = 100 * answered / len(surest), 100 * errors / answered
        axis.plot(x[x >= 5], y[x >= 5], label=name, color=colour, linestyle=line)
    label(axis, title, "texts answered, most confident first (%)", "errors among them (%)")
    axis.set_xlim(0, 100)
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper left", frameon=False)


def accuracy_over_time(
    axis: "Axes", series: Mapping[str, Sequence[Mapping[str, object]]], *, title: str, floor: float = 0
) -> None:
    """Draw accuracy in % against training time in s, with a marker at the start; rows of `TrainResult.curve`.

    The axis starts at `floor`. A curve that starts below `floor` has no marker.
    """
    for number, (name, rows) in enumerate(series.items()):
        colour, line, marker = _style(number)
        seconds = [float(str(row["seconds"])) for row in rows]
        accuracy = [100 * float(str(row["accuracy"])) for row in rows]
        text = f"{name}: {accuracy[0]:.1f} → {accuracy[-1]:.1f} %"
        axis.plot(seconds, accuracy, label=text, color=colour, linestyle=line)
        if accuracy[0] >= floor:
            axis.plot(seconds[0], accuracy[0], marker, color=colour, markersize=8, clip_on=False, zorder=4)
    label(axis, title, "training time (s; marker: before the first step)", "validation accuracy (%)")
    axis.set_xlim(left=0)
    axis.set_ylim(bottom=floor)
    axis.legend(loc="lower right", frameon=False)


def _style(number: int) -> tuple[str, str, str]:
    """Return colour, line and marker of a series, which also differ without colour."""
    return PALETTE[number % len(PALETTE)], LINES[number % len(LINES)], "os^D"[number % 4]


def _label_apart(axis: "Axes", points: Mapping[str, tuple[float, float]], radii: Sequence[float]) -> None:
    """Write each name near its point, at the first position where it covers no other name or marker.

    `radii` are the radii of the markers in points.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    figure = axis.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # computes the layout, which the transform from data to pixels needs
    pixels = figure.dpi / 72
    centres = [axis.transData.transform(point) for point in points.values()]
    taken = [Bbox([centre - r * pixels, centre + r * pixels]) for centre, r in zip(centres, radii, strict=True)]
    compass = [(0, 1), (0, -1), (1, 0), (-1, 0), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8), (-0.8, -0.8)]
    for name, centre, radius in zip(points, centres, radii, strict=True):
        text = axis.annotate(name, points[name], (0, 0), textcoords="offset points", fontsize=8)
        size = np.array(text.get_window_extent().size)
        text.remove()
        for far, direction in product((2, 12, 24, 38), compass):
            offset = (radius + far) * np.array(direction)
            corner = centre + offset * pixels - size * (1 - np.sign(direction)) / 2
            box = Bbox([corner, corner + size])
            inside = np.all(box.min >= axis.bbox.min) and np.all(box.max <= axis.bbox.max)
            if inside and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
        right, up = np.sign(direction)
        line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": radius}
        axis.annotate(
            name,
            points[name],
            (offset[0], offset[1]),
            textcoords="offset points",
            fontsize=8,
            ha={1: "left", 0: "center", -1: "right"}[right],
            va={1: "bottom", 0: "center", -1: "top"}[up],
            arrowprops=line if far > 2 else None,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
