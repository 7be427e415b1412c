"""Plots of vector search: a map of the texts, quality by mode, times, and growth with the rows."""

import re
from collections.abc import Mapping, Sequence
from textwrap import fill as wrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bankllm.lab import plots
from bankllm.lab.plots import Interval, PlotRows
from bankllm.lab.vector_timing import GROWTH_AIMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THEMES = {
    "small talk": ("greeting|goodbye|human_agent|out_of_scope", "#4b5563"),
    "top-up": ("top_?up|topping_up", "#c2571a"),
    "exchange": ("exchange|currenc", "#b58900"),
    "transfers": ("transfer|beneficiary|receiving_money", "#2563a8"),
    "cash": ("cash|atm_|swallowed", "#2f7d4f"),
    "payments": ("payment|refund|transaction|charge", "#b3263a"),
    "cards and PIN": ("card|pin_|_pin|contactless|apple_pay", "#7a4f9e"),
    "account and identity": ("identity|account|age_limit|details|funds|country|passcode|phone", "#0e8a8a"),
    "other": ("", "#9ca3af"),
}
"""Theme → pattern in the name of an intent (the first match counts), and colour on the map."""
MIN_TEXTS_PER_LABEL = 4
MAX_LINE_LENGTH = 18
"""Approximate number of characters per line of a label."""
PLANNED_MS = 100
"""The limit of the original plan for a search, in ms (`evidence/report/roadmap.py`)."""


def theme(intent: str) -> str:
    return next(name for name, (pattern, _) in THEMES.items() if re.search(pattern, intent.lower()))


def text_map(axis: "Axes", places: np.ndarray, intents: Sequence[str], *, title: str) -> None:
    """Draw texts at their points (n, 2), coloured by theme, with the names of intents where they do not overlap."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    frame = pd.DataFrame(places, columns=["x", "y"]).assign(intent=intents, theme=[theme(each) for each in intents])
    size = float(np.clip(30_000 / len(frame), 8, 40))  # larger markers for few texts
    for name, (_, colour) in THEMES.items():
        mine = frame[frame["theme"] == name]
        if len(mine):
            axis.scatter(mine["x"], mine["y"], s=size, color=colour, alpha=0.6, linewidths=0, label=name)
    plots.label(axis, title, "")
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.margins(0.03)
    plots.legend(axis, loc="upper center", bbox_to_anchor=(0.5, 0.0), markerscale=2.5, ncols=4)
    figure = axis.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # computes the layout, which the size of a text needs
    taken: list[Bbox] = []
    look: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "center", "linespacing": 1.0, "weight": "bold"}
    look["path_effects"] = [withStroke(linewidth=3, foreground="white")]
    for intent, place in _label_positions(frame):
        words = intent.rstrip("?").replace("_", " ").lower()
        lines = -(-len(words) // MAX_LINE_LENGTH)  # of similar length
        label = wrap(words, max(MAX_LINE_LENGTH // 2, len(words) // lines + 4))
        text = axis.text(*place, label, color=THEMES[theme(intent)][1], zorder=5, **look)
        box = text.get_window_extent().expanded(1.02, 1.05)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def time_spent(axis: "Axes", rows: PlotRows, *, title: str) -> None:
    """Draw the median times of embedding and searching, one bar per mode, scope and source of the embedding."""
    medians = pd.DataFrame(rows).groupby(["mode", "scope", "cached"], sort=False)[["embed_ms", "search_ms"]].median()
    words = {"all": "all texts", "customer": "one customer", "no": "new query", "memory": "cached query"}
    names = [f"{mode}, {words[scope]}, {words[cached]}" for mode, scope, cached in medians.index]
    numbers = [f"{embed:.2f} + {search:.2f}" for embed, search in medians.to_numpy()]
    parts = {"embedding the query": medians["embed_ms"].tolist(), "searching": medians["search_ms"].tolist()}
    plots.stacked_bars(axis, names, parts, numbers)
    plots.label(axis, title, "median time (ms)")
    plots.legend_below(axis)


def retrieval_bars(axis: "Axes", groups: Mapping[str, Mapping[str, Interval]], *, title: str, unit: str) -> None:
    """Draw a bar in % with its 95 % interval per group and mode; groups are name → mode → (value, low, high)."""
    hatched = {"color": "white", "edgecolor": plots.ORANGE, "hatch": "////"}
    looks: list[dict[str, Any]] = [{"color": plots.BLUE}, hatched, {"color": plots.GREEN}]
    modes = list(next(iter(groups.values())))
    for number, mode in enumerate(modes):
        value, low, high = 100 * np.array([group[mode] for group in groups.values()]).T
        x = np.arange(len(groups)) + 0.27 * (number - 1)
        axis.bar(x, value, 0.25, label=mode, **looks[number])
        axis.errorbar(x, value, (value - low, high - value), fmt="none", ecolor="#374151", elinewidth=1, capsize=2)
    axis.set_xticks(range(len(groups)), list(groups))
    axis.set_ylim(0, 100)
    axis.grid(visible=False, axis="x")
    plots.label(axis, title, "", unit)


def growth_times(axis: "Axes", searches: PlotRows) -> None:
    """Draw p50, p95 and first search in ms against rows on log axes."""
    frame = pd.DataFrame(searches)
    later = frame[~frame["first"].astype(bool)]
    for number, (scope, name) in enumerate((("all", "over all rows"), ("customer", "one customer's 200 rows"))):
        times = later[later["scope"] == scope].groupby("rows")["search_ms"]
        p50, p95, look = times.quantile(0.5), times.quantile(0.95), plots.style(number)
        axis.plot(p50.index, p50, marker="o", label=f"{name}: p50, shaded to p95", markersize=4, **look)
        axis.fill_between(p50.index, p50, p95, color=look["color"], alpha=0.2, linewidth=0)
    first = frame[frame["first"].astype(bool) & (frame["scope"] == "all")].groupby("rows")["search_ms"].first()
    look = {"color": plots.GREY, "linestyle": ":", "marker": "^", "markersize": 5}
    axis.plot(first.index, first, label="first search, reads the file", **look)
    shown = {size: aim for size, aim in GROWTH_AIMS.items() if first.index.min() <= size <= first.index.max()}
    if shown:
        axis.plot(list(shown), list(shown.values()), "_", color="black", markersize=14, label="aim for p95")
    text = f"limit of the original plan: {PLANNED_MS} ms"
    axis.axhline(PLANNED_MS, color="black", linewidth=0.8, linestyle="--", label=text)
    _log_axes(axis, "Search time by number of rows", "search (ms)", list(first.index))


def growth_bytes(axis: "Axes", sizes: PlotRows) -> None:
    """Draw file size and memory in MiB against rows on log axes."""
    rows = [row["rows"] for row in sizes]
    for number, (column, name) in enumerate((("file_bytes", "file on disk"), ("memory_bytes", "resident memory"))):
        amounts = [row[column] / 2**20 for row in sizes]
        axis.plot(rows, amounts, marker="o", label=name, markersize=4, **plots.style(number))
    _log_axes(axis, "Size by number of rows", "MiB", rows)


def _log_axes(axis: "Axes", title: str, unit: str, sizes: Sequence[int]) -> None:
    plots.label(axis, title, "rows of random unit vectors (log)", f"{unit}, log")
    axis.set(xscale="log", yscale="log")
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=25, ha="right", rotation_mode="anchor")
    axis.set_xticks([], minor=True)
    plots.log_ticks(axis.yaxis)
    plots.legend(axis, loc="upper center", bbox_to_anchor=(0.45, -0.28), ncols=2)


def _label_positions(frame: pd.DataFrame) -> list[tuple[str, tuple[float, float]]]:
    """Return (intent, medoid of its texts) for intents with enough texts, the densest cluster first."""
    labels = []
    for intent, mine in frame.groupby("intent"):
        if len(mine) >= MIN_TEXTS_PER_LABEL:
            points = mine[["x", "y"]].to_numpy()
            spread = np.median(np.linalg.norm(points[:, None] - points[None], axis=2), axis=1)
            labels.append((float(spread.min()), str(intent), tuple(points[spread.argmin()])))
    return [(intent, place) for _, intent, place in sorted(labels)]
