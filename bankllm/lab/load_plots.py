"""Plots of load tests: both loops, latency over time, rate sweep, soak, repeated runs, and the server's metrics."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bankllm.lab import plots
from bankllm.lab.plots import PlotRows
from bankllm.loadtest.experiments.rate_sweep import OBJECTIVE_MS, Step, knee_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIB = 2**20
MIN_PER_WINDOW = 20


def closed_and_open(
    axes: "Sequence[Axes]", closed: Mapping[str, Sequence[float]], opened: Mapping[str, Sequence[float]]
) -> None:
    """Draw latency distributions in ms on two axes with the same scale: closed loop left, open loop right."""
    left, right = axes
    plots.latency_distribution(left, closed, "Closed loop: users wait for their reply")
    plots.latency_distribution(right, opened, "Open loop: customers keep arriving")
    ends = [end for axis, series in ((left, closed), (right, opened)) if series for end in axis.get_xlim()]
    for axis in axes:
        axis.set_xlim(min(ends), max(ends))
        plots.log_ticks(axis.xaxis)


def over_time(axis: "Axes", rows: PlotRows, title: str) -> None:
    """Draw the latency of each request at its send time; the period of the users' first requests is shaded."""
    for number, (kind, mine) in enumerate(pd.DataFrame(rows).groupby("kind")):
        dots, colour = "o^"[number % 2], plots.PALETTE[number % 5]
        axis.plot(mine["sent_s"], mine["latency_ms"], dots, label=kind, color=colour, markersize=3, alpha=0.6)
    opening = [float(row["done_s"]) for row in rows if row["phase"] == "opening"]
    if opening:
        axis.axvspan(0, max(opening), color=plots.GREY, alpha=0.15, linewidth=0, label="opening wave")
    plots.label(axis, title, "sent (s since the start)", "latency (ms, log)")
    axis.set_yscale("log")
    plots.log_ticks(axis.yaxis)
    plots.legend_below(axis)


def throughput_sweep(axis: "Axes", steps: Sequence[Step], title: str) -> None:
    """Draw achieved rate and goodput against the offered rate, with the line achieved = offered, and the knee."""
    judged = _judged(steps)
    offered, achieved, good = ([getattr(step, name) for step in judged] for name in ("rate", "achieved", "goodput"))
    axis.plot((0, max(offered)), (0, max(offered)), color=plots.GREY, linestyle=":", label="achieved = offered")
    axis.plot(offered, achieved, label="answered", **plots.style(0, marker=True))
    axis.plot(offered, good, label=f"without error in {OBJECTIVE_MS} ms (goodput)", **plots.style(1, marker=True))
    plots.label(axis, title, "offered (requests/s)", "requests/s")
    axis.set(xlim=(0, None), ylim=(0, 1.05 * max(*achieved, *good)))
    if (knee := knee_of(steps)) is not None:
        axis.axvline(knee, color=plots.PURPLE, linestyle="-.", linewidth=1.2)
        along_x = axis.get_xaxis_transform()
        axis.text(knee, 0.02, f"knee: {knee:g}/s ", color=plots.PURPLE, ha="right", transform=along_x)
    plots.legend_below(axis)


def latency_sweep(axis: "Axes", series: Mapping[str, Sequence[Step]], title: str) -> None:
    """Draw p95 against the offered rate on log axes, one line per sweep, with the objective and each knee."""
    for number, (name, steps) in enumerate(series.items()):
        look, knee = plots.style(number, marker=True), knee_of(steps)
        p95 = {step.rate: step.percentile_ms(0.95) for step in _judged(steps)}
        text = name if knee is None else f"{name}: knee {knee:g}/s"
        axis.plot(list(p95), list(p95.values()), label=text, **look)
        if knee is not None:
            axis.plot(knee, p95[knee], "o", markersize=13, markerfacecolor="none", color=look["color"])
    axis.axhline(OBJECTIVE_MS, color=plots.GREY, linestyle=":", linewidth=1.2)
    axis.text(0.01, OBJECTIVE_MS, "objective", color=plots.GREY, va="bottom", transform=axis.get_yaxis_transform())
    plots.label(axis, title, "offered (requests/s, log)", "p95 (ms, log)")
    axis.set(xscale="log", yscale="log")
    plots.log_ticks(axis.xaxis, axis.yaxis)
    plots.legend_below(axis)


def memory_over_time(axis: "Axes", memory: PlotRows, max_growth: float) -> None:
    """Draw the server's memory during a soak, with the band around the first third that counts as flat."""
    at = np.array([float(row["at_s"]) for row in memory])
    mib = np.array([float(row["rss_bytes"]) / MIB for row in memory])
    settled = at >= min(60.0, 0.2 * at.max())
    middle = float(np.median(mib[settled][: max(1, settled.sum() // 3)]))
    text = f"± {max_growth:.0%} of the first third"
    flat = middle * (1 - max_growth), middle * (1 + max_growth)
    axis.axhspan(*flat, color=plots.GREEN, alpha=0.12, linewidth=0, label=text)
    axis.plot(at, mib, "-", color=plots.BLUE, label="resident")
    plots.label(axis, "The server's memory", "since the load began (s)", "MiB")
    axis.set_ylim(0, 1.25 * mib.max())
    plots.legend(axis, loc="lower right")


def latency_windows(axis: "Axes", rows: PlotRows, title: str, window_s: float) -> None:
    """Draw p50 and p95 per window of `window_s` seconds with at least `MIN_PER_WINDOW` requests."""
    frame = pd.DataFrame(rows)
    due = frame["scheduled_s"].astype(float)
    windows = frame["latency_ms"].astype(float).groupby((due - due.min()) // window_s)
    for number, (name, q) in enumerate({"p50": 0.5, "p95": 0.95}.items()):
        values = windows.quantile(q)[windows.size() >= MIN_PER_WINDOW]
        axis.plot(window_s * (values.index + 0.5), values, label=name, **plots.style(number))
    plots.label(axis, title, "due (s since the start)", f"latency (ms) in each {window_s:g} s")
    axis.set_ylim(bottom=0)
    plots.legend(axis)


def spread(axis: "Axes", runs: Mapping[str, Sequence[float]], *, title: str, unit: str) -> None:
    """Draw each run as a point, and the range of each driver's runs as a line with its median."""
    for row, values in enumerate(runs.values()):
        axis.plot((min(values), max(values)), (row, row), color=plots.GREY, linewidth=2)
        axis.plot(values, [row] * len(values), "o", color=plots.BLUE, alpha=0.8)
        median = float(np.median(values))
        axis.annotate(f"{median:,.1f}", (median, row), (0, 9), textcoords="offset points", ha="center")
    plots.label(axis, title, f"{unit} (points: runs; number: median)")
    axis.set_yticks(range(len(runs)), list(runs))
    axis.set_ylim(len(runs) - 0.5, -0.7)
    axis.set_xlim(0, 1.15 * max((max(values) for values in runs.values()), default=1))


def histogram_over_rows(axis: "Axes", buckets: PlotRows, latencies_ms: Sequence[float], q: float, title: str) -> None:
    """Draw the distribution of the clients' latencies and of the server's histogram, with a point at each bound.

    The bucket of the quantile `q` is shaded. `buckets` are rows of `le_ms` and a cumulative `requests`.
    """
    bounds = np.array([0.0, *(float(row["le_ms"]) for row in buckets[:-1])])
    shares = np.array([0.0, *(float(row["requests"]) for row in buckets[:-1])]) / float(buckets[-1]["requests"])
    upper = min(int(np.searchsorted(shares, q)), len(bounds) - 1)
    low, high = bounds[upper - 1], bounds[upper]
    axis.axvspan(low, high, color=plots.ORANGE, alpha=0.12, linewidth=0, label=f"bucket of the p{100 * q:.0f}")
    plots.latency_distribution(axis, {"clients' rows": latencies_ms}, title)
    shortest, longest = axis.get_xlim()
    between = np.geomspace(shortest, bounds[-1], 500)  # the straight lines of a histogram are curves on a log axis
    axis.plot(between, np.interp(between, bounds, shares), "--", color=plots.ORANGE, label="server's histogram")
    axis.plot(bounds[1:], shares[1:], "o", color=plots.ORANGE, markersize=5)
    axis.set_xlim(shortest, max(longest, 1.05 * high))
    plots.legend(axis, loc="lower right")


def stage_times(axis: "Axes", rows: PlotRows, title: str) -> None:
    """Draw the mean time of each stage as a bar and its p95, if it has one, as a mark; rows of `stage_times`."""
    names, means = ([row[column] for row in rows] for column in ("stage", "mean_ms"))
    tails = [math.nan if row["p95_ms"] is None else row["p95_ms"] for row in rows]
    axis.barh(names, means, color=plots.BLUE, height=0.6, label="mean")
    axis.plot(tails, names, "|", color=plots.ORANGE, markersize=16, markeredgewidth=2.5, label="p95, from buckets")
    for number, (mean, tail) in enumerate(zip(means, tails, strict=True)):
        text = f"{mean:.2f}" if math.isnan(tail) else f"{mean:.2f} / {tail:.1f}"
        axis.annotate(text, (np.fmax(mean, tail), number), (7, 0), textcoords="offset points", va="center")
    plots.label(axis, title, "ms (numbers: mean / p95)")
    axis.set_xlim(0, 1.3 * np.nanmax([*means, *tails]))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    plots.legend_below(axis)


def _judged(steps: Sequence[Step]) -> list[Step]:
    return sorted((step for step in steps if not step.result.invalid_because), key=lambda step: step.rate)
