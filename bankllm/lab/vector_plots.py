"""Plots of vector search: a map of the texts, the time of a search, cache hit rates, and growth with the rows."""

from collections.abc import Mapping, Sequence
from textwrap import fill as wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from bankllm.lab import plots
from bankllm.lab.plots import PlotRows
from bankllm.lab.text_map import OTHER, THEMES, theme

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = dict(
    zip(
        (*THEMES, OTHER),
        ("#4b5563", "#c2571a", "#b58900", "#2563a8", "#2f7d4f", "#b3263a", "#7a4f9e", "#0e8a8a", "#9ca3af"),
        strict=True,
    )
)
"""Theme → colour on the map."""
MIN_TEXTS_PER_LABEL = 4
"""Number of texts on the map that an intent needs for a label."""
MAX_LINE_LENGTH = 18
"""Approximate number of characters per line of a label."""
PLANNED_MS = 100
"""The limit of the original plan for a search, in ms (`evidence/report/roadmap.py`)."""
EMBEDDING_SOURCES = {"no": "new", "shared": "in the file's cache", "memory": "in memory"}
"""Source of an embedding (column `cached`) → its name in a plot."""


def text_map(axis: "Axes", places: np.ndarray, intents: Sequence[str], *, title: str) -> None:
    """Draw texts at their points (n, 2), coloured by theme, with the names of intents where they do not overlap."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    named = np.array(intents)
    themes = np.array([theme(intent) for intent in intents])
    size = float(np.clip(30_000 / len(named), 8, 40))  # larger markers for few texts
    for name, colour in COLOURS.items():
        mine = themes == name
        if mine.any():
            axis.scatter(places[mine, 0], places[mine, 1], s=size, color=colour, alpha=0.6, linewidths=0, label=name)
    axis.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axis.set(xticks=[], yticks=[])
    axis.grid(visible=False)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.margins(0.03)
    legend = axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), frameon=False, markerscale=2.5, ncols=4)
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    figure = axis.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # computes the layout, which the size of a text needs
    taken: list[Bbox] = []
    for intent, place in _label_positions(places, named):
        look: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "center", "linespacing": 1.0, "zorder": 5}
        halo = [withStroke(linewidth=3, foreground="white")]
        text = axis.text(
            place[0],
            place[1],
            _wrap_label(intent),
            color=COLOURS[theme(intent)],
            path_effects=halo,
            weight="bold",
            **look,
        )
        box = text.get_window_extent().expanded(1.02, 1.05)
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def time_spent(axis: "Axes", rows: PlotRows, *, title: str) -> None:
    """Draw the median times of embedding and searching, one bar per scope and source of the embedding."""
    bars = {}
    for scope, where in (("all", "all texts"), ("customer", "one customer")):
        for cached, source in EMBEDDING_SOURCES.items():
            mine = [row for row in rows if row["scope"] == scope and row["cached"] == cached]
            if mine:
                parts = [float(np.median([row[part] for row in mine])) for part in ("embed_ms", "search_ms")]
                bars[f"{where}, query {source}"] = parts
    embed, search = np.array(list(bars.values())).T
    axis.barh(list(bars), embed, color=plots.BLUE, height=0.6, label="embedding the query")
    look: dict[str, Any] = {"color": "white", "edgecolor": plots.ORANGE, "hatch": "////"}
    axis.barh(list(bars), search, left=embed, height=0.6, label="searching", **look)
    for row, (first, second) in enumerate(bars.values()):
        words, position = f"{first:.2f} + {second:.2f}", (first + second, row)
        axis.annotate(words, position, xytext=(5, 0), textcoords="offset points", va="center", fontsize=9)
    plots.label(axis, title, "median time (ms)")
    axis.set_xlim(0, 1.25 * max(embed + search))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.legend(loc="lower right", frameon=False)


def hit_rates(axis: "Axes", layers: Mapping[str, tuple[float, float]], expected: Mapping[str, float]) -> None:
    """Draw hit rates (0 … 1) of memory and of the shared cache as bars, with a mark at the expected sum."""
    memory, shared = 100 * np.array(list(layers.values())).T
    names = list(layers)
    axis.barh(names, memory, color=plots.BLUE, height=0.6, label="from memory")
    look: dict[str, Any] = {"color": "white", "edgecolor": plots.ORANGE, "hatch": "////"}
    some = np.flatnonzero(shared)
    if len(some):
        axis.barh(some, shared[some], left=memory[some], height=0.6, label="from the store's file", **look)
    for row, total in enumerate(memory + shared):
        offset = {"xytext": (9, 0), "textcoords": "offset points"}
        axis.annotate(f"{total:.1f} %", (total, row), va="center", fontsize=9, **offset)  # type: ignore[arg-type]
    marked = [names.index(name) for name in expected]
    places = [100 * share for share in expected.values()]
    axis.plot(places, marked, "|", color="black", markersize=17, label="expected (computed)")
    plots.label(axis, "Cache hit rate", "queries that needed no model (%)")
    axis.set_xlim(0, 116)
    axis.set_xticks(range(0, 101, 20))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=3, frameon=False, fontsize=9, columnspacing=1)


def growth_times(axis: "Axes", searches: PlotRows, *, aims: Mapping[int, float]) -> None:
    """Draw search time in ms against rows on log axes: p50 as a line, shaded up to p95; first searches separately.

    `aims` is rows → target for the p95 in ms.
    """
    sizes = sorted({row["rows"] for row in searches})
    for number, (scope, name) in enumerate((("all", "over all rows"), ("customer", "one customer's 200 rows"))):
        colour, line = plots.PALETTE[number], plots.LINES[number]
        later = [
            [row["search_ms"] for row in searches if (row["rows"], row["scope"], row["first"]) == (size, scope, False)]
            for size in sizes
        ]
        p50, p95 = (np.array([np.quantile(times, q) for times in later]) for q in (0.5, 0.95))
        axis.plot(sizes, p50, "o", color=colour, linestyle=line, label=f"{name}: p50, shaded to p95", markersize=4)
        axis.fill_between(sizes, p50, p95, color=colour, alpha=0.2, linewidth=0)
    first = [row["search_ms"] for row in searches if row["scope"] == "all" and row["first"]]
    axis.plot(sizes, first, "^", color=plots.GREY, linestyle=":", label="first search, reads the file", markersize=5)
    shown = {size: aim for size, aim in aims.items() if sizes[0] <= size <= sizes[-1]}
    if shown:
        axis.plot(list(shown), list(shown.values()), "_", color="black", markersize=14, label="aim for p95")
    axis.axhline(
        PLANNED_MS, color="black", linewidth=0.8, linestyle="--", label=f"limit of the original plan: {PLANNED_MS} ms"
    )
    _log_axes(axis, "Search time by number of rows", "search (ms)", sizes)


def growth_bytes(axis: "Axes", sizes: PlotRows) -> None:
    """Draw file size and memory in MiB against rows on log axes."""
    rows = [row["rows"] for row in sizes]
    for number, (column, name) in enumerate((("file_bytes", "file on disk"), ("memory_bytes", "resident memory"))):
        colour, line = plots.PALETTE[number], plots.LINES[number]
        amounts = [row[column] / 2**20 for row in sizes]
        axis.plot(rows, amounts, "o", color=colour, linestyle=line, label=name, markersize=4)
    _log_axes(axis, "Size by number of rows", "MiB", rows)


def _log_axes(axis: "Axes", title: str, unit: str, sizes: Sequence[int]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    plots.label(axis, title, "rows of random unit vectors (log)", f"{unit}, log")
    axis.set(xscale="log", yscale="log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=25, ha="right", rotation_mode="anchor")
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, -0.28), ncols=2, frameon=False, fontsize=8)


def _wrap_label(intent: str) -> str:
    """Return an intent's name as words, on lines of similar length."""
    words = intent.rstrip("?").replace("_", " ").lower()
    lines = -(-len(words) // MAX_LINE_LENGTH)
    return wrap(words, max(MAX_LINE_LENGTH // 2, len(words) // lines + 4))


def _label_positions(places: np.ndarray, intents: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return (intent, point) for the labels, the densest cluster first. The point is the medoid of the intent's texts.

    An intent with fewer than `MIN_TEXTS_PER_LABEL` texts has no label.
    """
    labels = []
    for intent in np.unique(intents):
        mine = places[intents == intent]
        if len(mine) >= MIN_TEXTS_PER_LABEL:
            spread = np.median(np.linalg.norm(mine[:, None] - mine[None], axis=2), axis=1)
            labels.append((float(spread.min()), str(intent), mine[int(spread.argmin())]))
    return [(intent, place) for _, intent, place in sorted(labels, key=lambda label: label[:2])]
