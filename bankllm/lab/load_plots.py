"""Plots of load tests: latency over time, rate sweep, soak, and the server's histogram."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bankllm.lab import plots
from bankllm.lab.plots import PlotRows
from bankllm.loadtest.experiments.rate_sweep import OBJECTIVE_MS, Step, knee_of

MIN_PER_WINDOW = 20


def over_time(axis: Axes, rows: PlotRows, title: str) -> None:
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


def throughput_sweep(axis: Axes, steps: Sequence[Step], title: str) -> None:
    """Draw achieved rate and goodput against the offered rate, with the line achieved = offered, and the knee."""
    rates = {step.rate: (step.rate, step.achieved, step.goodput) for step in _judged(steps)}
    names = ("achieved = offered", "answered", f"without error in {OBJECTIVE_MS} ms (goodput)")
    frame = pd.DataFrame(rates, names).T
    plots.lines(axis, frame, title)
    plots.label(axis, title, "offered (requests/s)", "requests/s")
    axis.set(xlim=(0, None), ylim=(0, 1.05 * frame.iloc[:, 1:].to_numpy().max()))
    if (knee := knee_of(steps)) is not None:
        axis.axvline(knee, color=plots.PURPLE, linestyle="-.", linewidth=1.2)
        along_x = axis.get_xaxis_transform()
        axis.text(knee, 0.02, f"knee: {knee:g}/s ", color=plots.PURPLE, ha="right", transform=along_x)
    plots.legend_below(axis)


def latency_sweep(axis: Axes, series: Mapping[str, Sequence[Step]], title: str) -> None:
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


def memory_over_time(axis: Axes, memory: PlotRows, max_growth: float) -> None:
    """Draw the server's memory during a soak, with the band around the first third that counts as flat."""
    at = np.array([float(row["at_s"]) for row in memory])
    mib = np.array([float(row["rss_bytes"]) / 2**20 for row in memory])
    settled = at >= min(60.0, 0.2 * at.max())
    middle = float(np.median(mib[settled][: max(1, settled.sum() // 3)]))
    text = f"± {max_growth:.0%} of the first third"
    flat = middle * (1 - max_growth), middle * (1 + max_growth)
    axis.axhspan(*flat, color=plots.GREEN, alpha=0.12, linewidth=0, label=text)
    axis.plot(at, mib, "-", color=plots.BLUE, label="resident")
    plots.label(axis, "The server's memory", "since the load began (s)", "MiB")
    axis.set_ylim(0, 1.25 * mib.max())
    plots.legend(axis, loc="lower right")


def latency_windows(axis: Axes, rows: PlotRows, title: str, window_s: float) -> None:
    """Draw p50 and p95 per window of `window_s` seconds with at least `MIN_PER_WINDOW` requests."""
    frame = pd.DataFrame(rows)
    due = frame["scheduled_s"].astype(float)
    number = (due - due.min()) // window_s
    windows = frame["latency_ms"].astype(float).groupby(window_s * (number + 0.5))
    shown = pd.DataFrame({name: windows.quantile(q) for name, q in {"p50": 0.5, "p95": 0.95}.items()})
    plots.lines(axis, shown[windows.size() >= MIN_PER_WINDOW], title)
    plots.label(axis, title, "due (s since the start)", f"latency (ms) in each {window_s:g} s")


def histogram_over_rows(axis: Axes, buckets: PlotRows, latencies_ms: Sequence[float], title: str) -> None:
    """Draw the distribution of the clients' latencies and of the server's histogram, with a point at each bound.

    `buckets` are rows of `le_ms` and a cumulative `requests`.
    """
    bounds = np.array([0.0, *(float(row["le_ms"]) for row in buckets[:-1])])
    shares = np.array([0.0, *(float(row["requests"]) for row in buckets[:-1])]) / float(buckets[-1]["requests"])
    plots.latency_distribution(axis, {"clients' rows": latencies_ms}, title)
    between = np.geomspace(axis.get_xlim()[0], bounds[-1], 500)  # straight lines are curves on a log axis
    axis.plot(between, np.interp(between, bounds, shares), "--", color=plots.ORANGE, label="server's histogram")
    axis.plot(bounds[1:], shares[1:], "o", color=plots.ORANGE, markersize=5)
    axis.set_xlim(*np.percentile(latencies_ms, [0, 100]) * (0.8, 1.3))
    plots.legend(axis, loc="lower right")


def _judged(steps: Sequence[Step]) -> list[Step]:
    return sorted((step for step in steps if not step.result.invalid_because), key=lambda step: step.rate)
