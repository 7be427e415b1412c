"""How figures look here: one palette, light grid, units on every axis, nothing that needs colour alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GREY = "#2563a8", "#c2571a", "#2f7d4f", "#7a4f9e", "#6b7280"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, GREY)
STYLE: dict[str, object] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": "#e5e7eb",
    "font.size": 10,
    "figure.dpi": 110,
    "legend.frameon": False,
}


def new_figure(width: float = 7.2, height: float = 3.6, columns: int = 1) -> "tuple[Figure, list[Axes]]":
    """A figure with `columns` axes side by side, in the house style."""
    import matplotlib.pyplot as plt

    with plt.style.context(STYLE):
        figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, layout="constrained")
    return figure, list(axes[0])


def latency_distribution(axis: "Axes", series: Mapping[str, Sequence[float]], title: str) -> None:
    """Empirical distribution functions of latencies in ms on a log axis, p50 and p95 as dotted lines."""
    for (label, values), colour in zip(series.items(), PALETTE, strict=False):
        ordered = np.sort(np.asarray(values, dtype=float))
        axis.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), where="post", label=label, color=colour)
    for share in (0.5, 0.95):
        axis.axhline(share, color=GREY, linestyle=":", linewidth=1)
        axis.annotate(
            f"p{share * 100:.0f}",
            (1.0, share),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color=GREY,
        )
    axis.set(xscale="log", xlabel="latency (ms)", ylabel="share of requests", title=title, ylim=(0, 1.02))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.legend(loc="lower right")


def bars(
    axis: "Axes",
    values: Mapping[str, float],
    *,
    title: str,
    unit: str,
    intervals: Mapping[str, tuple[float, float] | None] | None = None,
    decimals: int = 1,
) -> None:
    """Horizontal bars with their value written beside them, and a 95 % interval where there is one."""
    names = list(values)
    heights = [values[name] for name in names]
    axis.barh(names, heights, color=BLUE, height=0.6)
    right = max(heights, default=0.0)
    for row, name in enumerate(names):
        interval = (intervals or {}).get(name)
        end = heights[row]
        if interval is not None:
            axis.plot(interval, (row, row), color="black", linewidth=1.5)
            end = max(end, interval[1])
        axis.annotate(
            f"{heights[row]:,.{decimals}f}",
            (end, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
        right = max(right, end)
    axis.set(xlabel=unit, title=title, xlim=(0, right * 1.18 or 1))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
