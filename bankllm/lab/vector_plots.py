"""Plots of vector search: a map of the texts, quality by mode, and times."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bankllm.lab import plots
from bankllm.lab.plots import Interval, PlotRows

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


def theme(intent: str) -> str:
    return next(name for name, (pattern, _) in THEMES.items() if re.search(pattern, intent.lower()))


def text_map(axis: Axes, places: np.ndarray, intents: Sequence[str], *, title: str) -> None:
    """Draw texts at their points (n, 2), coloured by theme."""
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


def time_spent(axis: Axes, rows: PlotRows, *, title: str) -> None:
    """Draw the median times of embedding and searching, one bar per mode, scope and source of the embedding."""
    medians = pd.DataFrame(rows).groupby(["mode", "scope", "cached"], sort=False)[["embed_ms", "search_ms"]].median()
    words = {"all": "all texts", "customer": "one customer", "no": "new query", "memory": "cached query"}
    names = [f"{mode}, {words[scope]}, {words[cached]}" for mode, scope, cached in medians.index]
    numbers = [f"{embed:.2f} + {search:.2f}" for embed, search in medians.to_numpy()]
    parts = {"embedding the query": medians["embed_ms"].tolist(), "searching": medians["search_ms"].tolist()}
    plots.stacked_bars(axis, names, parts, numbers)
    plots.label(axis, title, "median time (ms)")
    plots.legend_below(axis)


def retrieval_bars(axis: Axes, groups: Mapping[str, Mapping[str, Interval]], *, title: str, unit: str) -> None:
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
