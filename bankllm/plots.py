"""How figures look here: one palette, light grid, units on every axis, nothing that needs colour alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GREY = "#2563a8", "#c2571a", "#2f7d4f", "#7a4f9e", "#6b7280"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, GREY)
LINES = ("-", "--", "-.", ":")


def new_figure(width: float = 7.2, height: float = 3.6, columns: int = 1) -> "tuple[Figure, list[Axes]]":
    """A figure with `columns` axes side by side, in the house style; nothing global is changed."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(width, height), squeeze=False, layout="constrained", dpi=110)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(color="#e5e7eb")
        axis.set_axisbelow(True)
    return figure, list(axes[0])


def label(axis: "Axes", title: str, x: str, y: str = "") -> None:
    """Title on the left and both axis labels; units belong into the labels."""
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axis.set(xlabel=x, ylabel=y)


def latency_distribution(axis: "Axes", series: Mapping[str, Sequence[float]], title: str) -> None:
    """Empirical distribution functions of latencies in ms on a log axis, p50 and p95 as dotted lines."""
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
    """Horizontal bars from 0, with their value written beside them."""
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
    """Points with their 95 % interval, as (value, low, high); the axis shows their neighbourhood, not 0."""
    for row, (value, low, high) in enumerate(values.values()):
        axis.plot((low, high), (row, row), color=GREY, linewidth=2)
        axis.plot(value, row, "o", color=BLUE, markersize=8)
        position, shift = (value, row), (0, 9)
        axis.annotate(f"{value:,.{decimals}f}", position, xytext=shift, textcoords="offset points", ha="center")
    label(axis, title, f"{unit} (line: 95 % interval)")
    axis.set_yticks(range(len(values)), list(values))
    axis.set_ylim(len(values) - 0.5, -0.6)
    axis.margins(x=0.15)
