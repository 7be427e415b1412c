"""Plots of load tests: closed and open loop, latency over time, the rate sweep, the soak, and repeated runs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bankllm.lab import plots
from bankllm.lab.plots import PlotRows
from bankllm.loadtest.experiments.rate_sweep import OBJECTIVE_MS, Step, knee_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.ticker import LogLocator

MIB = 2**20
LEGEND_BELOW: dict[str, Any] = {"frameon": False, "loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2}
LEGEND_BELOW |= {"fontsize": 9}
"""Legend below the axes, for plots whose lines can cover any part of the axes."""


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
        axis.xaxis.set_major_locator(_decades(min(ends), max(ends)))


def over_time(axis: "Axes", rows: PlotRows, title: str) -> None:
    """Draw the latency of each request at its send time; the period of the users' first requests is shaded."""
    for number, kind in enumerate(sorted({str(row["kind"]) for row in rows})):
        kind_rows = [row for row in rows if row["kind"] == kind]
        sent, waited = ([float(row[column]) for row in kind_rows] for column in ("sent_s", "latency_ms"))
        axis.plot(sent, waited, "o^"[number % 2], markersize=3, alpha=0.6, label=kind, color=plots.PALETTE[number % 5])
    opening = [float(row["done_s"]) for row in rows if row["phase"] == "opening"]
    if opening:
        axis.axvspan(0, max(opening), color=plots.GREY, alpha=0.15, linewidth=0, label="opening wave")
    plots.label(axis, title, "sent (s since the start)", "latency (ms, log)")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.legend(frameon=False, loc="best", fontsize=9)


def throughput_sweep(axis: "Axes", steps: Sequence[Step], title: str) -> None:
    """Draw achieved rate and goodput against the offered rate, with the line achieved = offered, and the knee."""
    offered = [step.rate for step in _judged(steps)]
    axis.plot((0, max(offered)), (0, max(offered)), color=plots.GREY, linestyle=":", label="achieved = offered")
    achieved, good = ([getattr(step, name) for step in _judged(steps)] for name in ("achieved", "goodput"))
    axis.plot(offered, achieved, "-o", color=plots.BLUE, label="answered")
    axis.plot(
        offered, good, "--s", color=plots.ORANGE, label=f"answered without error within {OBJECTIVE_MS} ms (goodput)"
    )
    plots.label(axis, title, "offered (requests/s)", "requests/s")
    axis.set(xlim=(0, None), ylim=(0, 1.05 * max(*achieved, max(good))))
    _mark_knee(axis, steps)
    axis.legend(**LEGEND_BELOW)


def latency_sweep(axis: "Axes", series: Mapping[str, Sequence[Step]], title: str) -> None:
    """Draw p95 against the offered rate on log axes, one line per sweep, with the objective and each knee."""
    from matplotlib.ticker import NullFormatter

    for number, (name, steps) in enumerate(series.items()):
        colour, line = plots.PALETTE[number % 5], plots.LINES[number % 4]
        judged = _judged(steps)
        p95 = [step.percentile_ms(0.95) for step in judged]
        knee = knee_of(steps)
        text = name if knee is None else f"{name}: knee {knee:g}/s"
        axis.plot([step.rate for step in judged], p95, line, marker="o^sD"[number % 4], color=colour, label=text)
        for step, value in zip(judged, p95, strict=True):
            if step.rate == knee:
                axis.plot(step.rate, value, "o", markersize=13, markerfacecolor="none", color=colour)
    axis.axhline(OBJECTIVE_MS, color=plots.GREY, linestyle=":", linewidth=1.2)
    axis.annotate(
        "objective", (0.01, OBJECTIVE_MS), (0, 3), ("axes fraction", "data"), "offset points", color=plots.GREY
    )
    plots.label(axis, title, "offered (requests/s, log)", "p95 (ms, log)")
    axis.set(xscale="log", yscale="log")
    for scale, ends in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        scale.set_major_locator(_decades(*ends))
        scale.set_major_formatter("{x:g}")
        scale.set_minor_formatter(NullFormatter())
    axis.legend(**LEGEND_BELOW)


def memory_over_time(axis: "Axes", memory: PlotRows, max_growth: float) -> None:
    """Draw the server's memory during a soak, with the band around the first third that counts as flat."""
    at = np.array([float(row["at_s"]) for row in memory])
    mib = np.array([float(row["rss_bytes"]) / MIB for row in memory])
    settled = at >= min(60.0, 0.2 * at.max())
    middle = float(np.median(mib[settled][: max(1, settled.sum() // 3)]))
    axis.axhspan(
        middle * (1 - max_growth), middle * (1 + max_growth), color=plots.GREEN, alpha=0.12, linewidth=0,
        label=f"± {max_growth:.0%} of the first third",
    )  # fmt: skip
    axis.plot(at, mib, "-", color=plots.BLUE, label="resident")
    plots.label(axis, "The server's memory", "since the load began (s)", "MiB")
    axis.set_ylim(0, 1.25 * mib.max())
    axis.legend(frameon=False, loc="lower right", fontsize=9)


def latency_windows(axis: "Axes", rows: PlotRows, title: str, window_s: float) -> None:
    """Draw p50 and p95 per window of `window_s` seconds, which shows whether the latency drifts."""
    due = np.array([float(row["scheduled_s"]) for row in rows])
    waited = np.array([float(row["latency_ms"]) for row in rows])
    numbers = ((due - due.min()) // window_s).astype(int)
    windows = [number for number in range(numbers.max() + 1) if (numbers == number).sum() >= 20]
    for (name, q), colour, line in zip({"p50": 50, "p95": 95}.items(), plots.PALETTE, plots.LINES, strict=False):
        values = [float(np.percentile(waited[numbers == number], q)) for number in windows]
        axis.plot([window_s * (number + 0.5) for number in windows], values, line, color=colour, label=name)
    plots.label(axis, title, "due (s since the start)", f"latency (ms) in each {window_s:g} s")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, loc="best", fontsize=9)


def spread(axis: "Axes", runs: Mapping[str, Sequence[float]], *, title: str, unit: str) -> None:
    """Draw the value of each run as a point, and the range of each driver's runs as a line with its median."""
    for row, values in enumerate(runs.values()):
        axis.plot((min(values), max(values)), (row, row), color=plots.GREY, linewidth=2)
        axis.plot(values, [row] * len(values), "o", color=plots.BLUE, alpha=0.8)
        median = float(np.median(values))
        axis.annotate(f"{median:,.1f}", (median, row), (0, 9), textcoords="offset points", ha="center")
    plots.label(axis, title, f"{unit} (points: runs; number: median)")
    axis.set_yticks(range(len(runs)), list(runs))
    axis.set_ylim(len(runs) - 0.5, -0.7)
    axis.set_xlim(0, 1.15 * max((max(values) for values in runs.values()), default=1))


def _decades(low: float, high: float) -> "LogLocator":
    """Return ticks at 1, 2 and 5 of each decade, or only at 1 if there are many decades."""
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,))


def _judged(steps: Sequence[Step]) -> list[Step]:
    """Return the valid steps, sorted by rate."""
    return sorted((step for step in steps if not step.invalid_because), key=lambda step: step.rate)


def _mark_knee(axis: "Axes", steps: Sequence[Step]) -> None:
    knee = knee_of(steps)
    if knee is None:
        return
    axis.axvline(knee, color=plots.PURPLE, linestyle="-.", linewidth=1.2)
    place = {"xycoords": ("data", "axes fraction"), "xytext": (-4, 0), "textcoords": "offset points", "ha": "right"}
    axis.annotate(f"knee: {knee:g}/s", (knee, 0.02), color=plots.PURPLE, **place)  # type: ignore[arg-type]
