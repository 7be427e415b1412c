"""The imports between the parts of the package, drawn in layers (Sugiyama 1981): every line leads down.

A line that passes a row of boxes has a bend there. All lines of a part are one tree, which lights up under the mouse.
"""

from collections.abc import Callable
from itertools import accumulate, combinations, pairwise, permutations
from statistics import fmean

import grimp
import networkx

BOX, BEND, HIGH, ROW = 116, 30, 34, 84
"""Width of a box and of a bend, with the space around them; height of a box; distance of rows; all in pixels."""

Node = tuple[str, int]
"""A part and a row: the box of the part, or below it a bend of its lines."""


def imports() -> networkx.DiGraph:
    """Part → the parts that it imports, without those that a longer path implies."""
    graph = grimp.build_graph("bankllm", cache_dir=None, exclude_type_checking_imports=True)
    found = networkx.DiGraph()
    for importer, imported in permutations(sorted(graph.find_children("bankllm") - {"bankllm.__main__"}), 2):
        if graph.direct_import_exists(importer=importer, imported=imported, as_packages=True):
            found.add_edge(importer.partition(".")[2], imported.partition(".")[2])
    return networkx.transitive_reduction(found)


def rows(graph: networkx.DiGraph) -> list[list[str]]:
    """The parts in rows: each below all the parts that import it."""
    return [sorted(row) for row in networkx.topological_generations(graph)]


def draw(graph: networkx.DiGraph, address: Callable[[str], str]) -> str:
    """The drawing as SVG; `address` gives the page of a part."""
    boxes = {name: (name, row) for row, names in enumerate(rows(graph)) for name in names}
    lines = networkx.DiGraph()
    for importer, imported in graph.edges:
        bends = [(importer, row) for row in range(boxes[importer][1], boxes[imported][1])]
        lines.add_edges_from(pairwise([*bends, boxes[imported]]))
    x = _places(lines, set(boxes.values()))
    width, height = max(x.values()) + BOX, ROW * max(row for _, row in lines) + HIGH + 4
    parts = [f'<div class="imports"><svg viewBox="0 -2 {width:.0f} {height}" role="img" aria-label="Imports">']
    for name, box in boxes.items():
        paths = [_path(line, x, box) for line in lines.edges if line[0][0] == name]
        parts.append(f"<g><title>{name} imports {', '.join(sorted(graph[name])) or 'no other part'}</title>")
        parts.append(f'<path d="{" ".join(paths)}"/><a href="{address(name)}">')
        left, top = x[box] - BOX / 2 + 3, ROW * box[1]
        parts.append(f'<rect x="{left:.0f}" y="{top}" width="{BOX - 6}" height="{HIGH}" rx="6"/>')
        parts.append(f'<text x="{x[box]:.0f}" y="{top + 22}">{name}</text></a></g>')
    return "\n".join([*parts, "</svg></div>"])


def _path(line: tuple[Node, Node], x: dict[Node, float], box: Node) -> str:
    above, below = line
    start, end = ROW * above[1] + HIGH, ROW * below[1]
    middle = (start + end) / 2
    bend = "" if above == box else f"M{x[above]:.0f},{start - HIGH} V{start} "
    arrow = "" if above[0] == below[0] else " l-4,-7 m4,7 l4,-7"
    curve = f"C{x[above]:.0f},{middle} {x[below]:.0f},{middle} {x[below]:.0f},{end}"
    return f"{bend}M{x[above]:.0f},{start} {curve}{arrow}"


def _places(lines: networkx.DiGraph, boxes: set[Node]) -> dict[Node, float]:
    """The x coordinates with the fewest crossings of 24 sweeps, which sort each row by the means of its neighbours."""
    order = [[node for node in sorted(lines) if node[1] == row] for row in range(1 + max(row for _, row in lines))]
    x = dict.fromkeys(lines, 0.0)
    found = []
    for sweep in range(24):
        neighbours = lines.pred if sweep % 2 else lines.succ
        for row in order if sweep % 2 else reversed(order):
            row.sort(key=lambda node: fmean([x[other] for other in neighbours[node]] or [x[node]]))
            halves = [(BOX if node in boxes else BEND) / 2 for node in row]
            ends = accumulate(2 * half for half in halves)
            x |= {node: end - half - sum(halves) for node, end, half in zip(row, ends, halves, strict=True)}
        crossings = sum(
            (x[a] - x[c]) * (x[b] - x[d]) < 0 for (a, b), (c, d) in combinations(lines.edges, 2) if a[1] == c[1]
        )
        found.append((crossings, sweep, dict(x)))
    best = min(found)[2]
    left = min(best.values()) - BOX / 2
    return {node: place - left for node, place in best.items()}
