"""Plots of the server's metrics: its latency histogram with the clients' latencies, and the stages of a chat."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bankllm.lab import plots
from bankllm.lab.plots import PlotRows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def histogram_over_rows(axis: "Axes", buckets: PlotRows, latencies_ms: Sequence[float], q: float, title: str) -> None:
    """Draw the distribution of the clients' latencies and of the server's histogram, with a point at each bound.

    Between two bounds a histogram assumes a uniform distribution. The bucket of the quantile `q` is shaded. `buckets`
    are rows of `le_ms` and a cumulative `requests`.
    """
    bounds = np.array([0.0, *(float(row["le_ms"]) for row in buckets[:-1])])
    shares = np.array([0.0, *(float(row["requests"]) for row in buckets[:-1])]) / float(buckets[-1]["requests"])
    upper = min(int(np.searchsorted(shares, q)), len(bounds) - 1)
    low, high = bounds[upper - 1], bounds[upper]
    axis.axvspan(low, high, color=plots.ORANGE, alpha=0.12, linewidth=0, label=f"bucket of the p{100 * q:.0f}")
    plots.latency_distribution(axis, {"clients' rows": latencies_ms}, title)
    shortest, longest = axis.get_xlim()
    between = np.union1d(np.geomspace(shortest, bounds[-1], 500), bounds[1:])
    line = np.interp(between, bounds, shares)
    look: dict[str, Any] = {"color": plots.ORANGE, "linestyle": "--", "marker": "o", "markersize": 5}
    marked = np.flatnonzero(np.isin(between, bounds)).tolist()
    axis.plot(between, line, **look, markevery=marked, label="server's histogram")
    axis.set_xlim(shortest, max(longest, 1.05 * high))
    axis.legend(frameon=False, loc="lower right", fontsize=9)


def stage_times(axis: "Axes", rows: PlotRows, title: str) -> None:
    """Draw the mean time of each stage as a bar and its p95 as a mark; rows as returned by `stage_times.stage_times`.

    A stage with too few chats for a p95 has no mark.
    """
    names, means = ([row[column] for row in rows] for column in ("stage", "mean_ms"))
    tails = [math.nan if row["p95_ms"] is None else row["p95_ms"] for row in rows]
    axis.barh(names, means, color=plots.BLUE, height=0.6, label="mean")
    axis.plot(tails, names, "|", color=plots.ORANGE, markersize=16, markeredgewidth=2.5, label="p95, from buckets")
    for number, (mean, tail) in enumerate(zip(means, tails, strict=True)):
        known = not math.isnan(tail)
        text, place = f"{mean:.2f}" + (f" / {tail:.1f}" if known else ""), (max(mean, tail if known else 0), number)
        axis.annotate(text, place, (7, 0), textcoords="offset points", va="center")
    plots.label(axis, title, "ms (numbers: mean / p95)")
    axis.set_xlim(0, 1.3 * np.nanmax([*means, *tails]))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.legend(frameon=False, loc="lower right", fontsize=9)
