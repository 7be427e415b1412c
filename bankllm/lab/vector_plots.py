"""Pictures of a memory: a map of its texts, where a search's time goes, what caches answer, and how it grows."""

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
FEWEST_ON_AN_ISLAND = 4
"""Texts that an intent needs on the map to be named."""
LINE = 18
"""Characters of a name on one line, about."""
ROADMAP_MS = 100
WAYS = {"no": "new", "shared": "in the file's cache", "memory": "in memory"}
"""Where an embedding came from, in people's words."""


def text_map(axis: "Axes", places: np.ndarray, intents: Sequence[str], *, title: str) -> None:
    """Texts at their (n, 2) places, coloured by theme; an intent's name stands on its island where there is room."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    named = np.array(intents)
    themes = np.array([theme(intent) for intent in intents])
    size = float(np.clip(30_000 / len(named), 8, 40))  # few texts would be lost in the white
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
    figure.draw_without_rendering()  # lays the axes out, so that text can be measured
    taken: list[Bbox] = []
    for intent, place in _islands(places, named):
        look: dict[str, Any] = {"fontsize": 7, "ha": "center", "va": "center", "linespacing": 1.0, "zorder": 5}
        halo = [withStroke(linewidth=3, foreground="white")]
        text = axis.text(
            place[0],
            place[1],
            _in_lines(intent),
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
    """The median time of embedding and of searching, one bar for each way to the embedding and each scope."""
    bars = {}
    for scope, where in (("all", "all texts"), ("customer", "one customer")):
        for cached, way in WAYS.items():
            mine = [row for row in rows if row["scope"] == scope and row["cached"] == cached]
            if mine:
                parts = [float(np.median([row[part] for row in mine])) for part in ("embed_ms", "search_ms")]
                bars[f"{where}, query {way}"] = parts
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
    """Bars of the shares (0 … 1) that memory and the shared layer answered; a mark where arithmetic expects the sum."""
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
    axis.plot(places, marked, "|", color="black", markersize=17, label="expected by arithmetic")
    plots.label(axis, "What the cache answers", "queries that needed no model (%)")
    axis.set_xlim(0, 116)
    axis.set_xticks(range(0, 101, 20))
    axis.invert_yaxis()
    axis.grid(visible=False, axis="y")
    axis.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=3, frameon=False, fontsize=9, columnspacing=1)


def growth_times(axis: "Axes", searches: PlotRows, *, aims: Mapping[int, float]) -> None:
    """Search time in ms against rows, both on log axes: p50 as a line, up to p95 shaded, the first search apart."""
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
    axis.axhline(ROADMAP_MS, color="black", linewidth=0.8, linestyle="--", label=f"the roadmap's {ROADMAP_MS} ms")
    _log_axes(axis, "How a search grows", "search (ms)", sizes)


def growth_bytes(axis: "Axes", sizes: PlotRows) -> None:
    """File and memory in MiB against rows, both on log axes."""
    rows = [row["rows"] for row in sizes]
    for number, (column, name) in enumerate((("file_bytes", "file on disk"), ("memory_bytes", "resident memory"))):
        colour, line = plots.PALETTE[number], plots.LINES[number]
        amounts = [row[column] / 2**20 for row in sizes]
        axis.plot(rows, amounts, "o", color=colour, linestyle=line, label=name, markersize=4)
    _log_axes(axis, "What it takes", "MiB", rows)


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


def _in_lines(intent: str) -> str:
    """An intent's name in words, on lines of about equal length."""
    words = intent.rstrip("?").replace("_", " ").lower()
    lines = -(-len(words) // LINE)
    return wrap(words, max(LINE // 2, len(words) // lines + 4))


def _islands(places: np.ndarray, intents: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Where to write the intents' names, the densest island first: the text of each that lies nearest to the others."""
    found = []
    for intent in np.unique(intents):
        mine = places[intents == intent]
        if len(mine) >= FEWEST_ON_AN_ISLAND:
            spread = np.median(np.linalg.norm(mine[:, None] - mine[None], axis=2), axis=1)
            found.append((float(spread.min()), str(intent), mine[int(spread.argmin())]))
    return [(intent, place) for _, intent, place in sorted(found, key=lambda island: island[:2])]
