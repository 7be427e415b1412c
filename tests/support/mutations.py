"""Mutations of a `run_of_every_kind`, kind by kind; most are by an attacker who computes all hashes again."""

import base64
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from bankllm.evidence.claim_syntax import CLAIM, HTML_CLAIM
from bankllm.evidence.documents import Manifest, parse
from bankllm.evidence.raw_files import read_table
from bankllm.evidence.verification.crate_checks import METADATA, crate_facts
from bankllm.evidence.verification.record_checks import read_record_lines
from bankllm.util.sampling import subset
from tests.support.every_kind import ADAPTER, NOTEBOOKS
from tests.support.tampering import (
    Tampering,
    bump,
    column,
    content,
    entity,
    fields,
    lines,
    other,
    removed,
    replaced,
    swapped,
)

CHAT = "raw/01_chat.csv.gz"
SEAL = "manifest.json: was edited"
VALID = {"valid": True, "invalid_because": None}
CARD, OWN = f"{ADAPTER}/README.md", f"{ADAPTER}/records.jsonl"

ROWS_OF = {
    "rows of classifiers": ("raw/01_answers", "raw/01_costs"),
    "rows of streams": ("raw/01_stream",),
    "graded conversations": ("raw/01_conversations",),
    "rows of loads": ("raw/01_chat", "raw/01_load", "raw/01_soak", "raw/02_load"),
    "degradation curves": ("raw/02_curve", "raw/02_sweep"),
    "tool calls": ("raw/03_language_understand", "raw/03_language_paired", f"{ADAPTER}/raw/understand"),
    "worded replies": ("raw/03_language_word", f"{ADAPTER}/raw/word"),
    "searches": ("raw/04_",),
    "parity tables": (f"{ADAPTER}/raw/parity",),
    "costs of adapters": (f"{ADAPTER}/raw/cost", f"{ADAPTER}/raw/speed"),
}
"""Kind → beginnings of the paths of its raw files."""
EDITS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "value": lambda r: {"value": (r["value"] or 0.0) * 1.01 + 0.5},
    "unit": lambda r: {"unit": "s" if r["unit"] == "ms" else "ms"},
    "n": lambda r: {"n": r["n"] + 1},
    "interval": lambda r: {"ci95": [0.25, 0.75] if r["ci95"] is None else [r["ci95"][0], r["ci95"][1] * 1.1]},
    "rows": lambda r: {"raw": {"where": {**r["raw"]["where"], "none": "such"}}},
    "statistic": lambda r: {"statistic": "maximum" if r["statistic"] == "count" else "count"},
    "validity": lambda r: VALID if not r["valid"] else {"valid": False, "invalid_because": "one run"},
    "parameters": lambda r: {"parameters": {"column": "none", "predicted": "none", "places": "none", "a": "none"}},
}
"""What is false in a record."""
ROWS: dict[str, Callable[[list[str]], list[str]]] = {
    "a row twice": lambda ls: [*ls, ls[-1]],
    "a row dropped": lambda ls: ls[:-1],
    "a cell too many": lambda ls: [*ls[:-1], ls[-1] + ",1"],
    "the rows dropped": lambda ls: ls[:1],
    "another header": lambda ls: [re.sub(r"\w+", "a", ls[0]), *ls[1:]],
}
IMPLIED = {"accuracy": ("actual", "predicted"), "auroc": ("confidence",), "ndcg": ("relevant",)}
"""Statistic → the columns that it reads without a parameter."""


def of_rows(original: Path, prefixes: tuple[str, ...]) -> Iterator[Tampering]:
    """The rows of one kind, column by column, and two false fields of each of their records."""
    for number, (folder, record) in enumerate(measured(original)):
        if record["raw"] and f"{folder}{record['raw']['path']}".startswith(prefixes):
            for what in (list(EDITS)[number % len(EDITS)], list(EDITS)[(number + 3) % len(EDITS)]):
                change = fields(record["id"], f"{folder}records.jsonl", **EDITS[what](record))
                yield Tampering(f"{what} of {folder}{record['id']}", "seals", change, (f"{folder}{record['id']}: ",))
    used: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for folder, record in measured(original):
        if record["raw"] and f"{folder}{record['raw']['path']}".startswith(prefixes):
            used[f"{folder}{record['raw']['path']}"].append((folder, record))
    for name, records in used.items():
        named = tuple(f"{folder}{record['id']}: " for folder, record in records)
        for what, edit in ROWS.items():
            yield Tampering(f"{what} in {name}", "seals", lines(name, edit), named)
        yield Tampering(f"{name} removed", "seals", removed(name), named)
        yield Tampering(f"a byte of {name}", "lists", content(name, lambda text: f"{text}\n"), (SEAL,))
        columns = set(read_table(original / name, name)[0])
        for _, record in records:
            columns_of = {*map(str, record["parameters"].values()), *record["raw"]["where"]}
            for one in sorted(columns & {*columns_of, *IMPLIED.get(record["statistic"], ())}):
                columns.discard(one)
                how = record["parameters"]
                counted = how.get("equals", "other") if one == how.get("column") else "other"
                yield Tampering(f"column {one} of {name}", "seals", column(name, one, counted), named)


def measured(original: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the folder and the fields of each record of the run and of its adapter."""
    for folder in ("", f"{ADAPTER}/"):
        yield from ((folder, json.loads(line)) for line in (original / folder / "records.jsonl").open())


def of_models(original: Path) -> Iterator[Tampering]:
    for match in CLAIM.finditer((original / CARD).read_text()):
        for edit in (bump(match["text"]), "9" + match["text"]):
            change = replaced(CARD, match[0], match[0].replace(f">{match['text']}<", f">{edit}<"))
            yield Tampering(f"{match['id']} of the card is {edit}", "seals", change, (f"{CARD}: line",))
    index = "---\nmodel-index:\n- results:\n  - metrics:\n    - value: 0.99\n      name: Exactly right calls\n"
    yield Tampering("a metric in the card", "seals", replaced(CARD, "---\n", index), (f"{CARD}: model-index",))
    index = index.replace("\n      name", ", name")
    yield Tampering("a metric in one line", "seals", replaced(CARD, "---\n", index), (f"{CARD}: model-index",))
    yield Tampering("the card removed", "seals", removed(CARD), (CARD,))
    for name in ("adapter_model.safetensors", "training.json"):
        changed = content(f"{ADAPTER}/{name}", lambda text: text[:-1] + "~")
        yield Tampering(f"{name} changed", "seals", changed, (f"{ADAPTER}/{name}: expected sha256",))
        yield Tampering(f"{name} removed", "seals", removed(f"{ADAPTER}/{name}"), (f"{ADAPTER}/{name}: the records",))
    nameless = lines(OWN, lambda ls: [re.sub(r'"files": ?\{.*?\}', '"files": {}', line) for line in ls])
    yield Tampering("no record names the weights", "seals", nameless, (f"{OWN}: no record names",))
    listed = lines(OWN, lambda ls: [re.sub(r'"files": ?\{.*?\}', '"files": [1]', line) for line in ls])
    yield Tampering("weights named in a list", "seals", listed, (f"{OWN}: conditions.files is not an object",))
    yield Tampering(f"a line of {OWN} cut short", "edits", content(OWN, lambda text: text[:-9]), (f"{OWN}, line",))
    yield Tampering(
        f"a record of {OWN} twice", "seals", lines(OWN, lambda ls: [*ls, ls[0]]), (f"{ADAPTER}/train_s: is in",)
    )


def of_pages(original: Path) -> Iterator[Tampering]:
    for page, pattern in (("RESULTS.md", CLAIM), ("RESULTS.html", HTML_CLAIM), ("RESUME.md", CLAIM)):
        claims = {match[0]: match for match in pattern.finditer((original / page).read_text())}
        for whole, match in subset(list(claims.items()), 20):
            if re.search(r"\d", match["text"]):
                false = whole.replace(f">{match['text']}<", f">{bump(match['text'])}<")
                yield Tampering(f"{whole} in {page}", "seals", replaced(page, whole, false), (f"{page}: line",))
        for whole, match in subset(list(claims.items()), 8):
            foreign = replaced(page, whole, whole.replace(match["id"], "chat.none.p50_ms"))
            yield Tampering(f"another id than {whole} in {page}", "seals", foreign, ("no record chat.none",))


def of_notebooks(original: Path) -> Iterator[Tampering]:
    for name in (f"notebooks/{notebook}.ipynb" for notebook in NOTEBOOKS):
        text = (original / name).read_text()
        cells = sorted(set(re.findall(r"<td>[^<]*\d[^<]*</td>", text)))
        for cell in (*subset(cells, 10), "<td>measured</td>"):
            false = bump(cell) if re.search(r"\d", cell) else "<td>invalid</td>"
            yield Tampering(f"{cell} in {name}", "seals", replaced(name, cell, false), (f"{name}: ",))
        for id, rest in subset(re.findall(r'"([a-z]+\.[\w.]+)( +[^"]*\d[^"]*)\\n"', text), 6):
            change = replaced(name, f'"{id}{rest}', f'"{id}{bump(rest)}')
            yield Tampering(f"the text of {id} in {name}", "seals", change, (f"{name}: text of {id}",))
        for match in subset(list(CLAIM.finditer(text)), 3):
            change = replaced(name, match[0], match[0].replace(match["text"], bump(match["text"])))
            yield Tampering(f"{match[0]} in {name}", "seals", change, (f"{name}: line",))
        yield Tampering(f"{name} is no JSON", "seals", replaced(name, "{", "("), (f"{name}: is not a valid notebook",))


def of_plots(original: Path) -> Iterator[Tampering]:
    shown = {f"plots/{n[:3]}plot.png": f"notebooks/{n}.ipynb" for n in NOTEBOOKS}
    images = {plot: base64.b64encode((original / plot).read_bytes()).decode() for plot in shown}
    for plot, notebook in shown.items():
        named = (f"{plot}: is no image of {notebook}",)
        yield Tampering(f"{plot} has another byte", "seals", content(plot, lambda text: text + "~"), named)
        yield Tampering(f"{plot} is cut", "seals", content(plot, lambda text: text[:60]), named)
        yield Tampering(f"{plot} removed", "seals", removed(plot), ("RESULTS.html: shows an image",))
        false = images[plot].replace("A", "B", 1)
        yield Tampering(f"{plot} in its notebook", "seals", replaced(notebook, images[plot], false), named)
        html = replaced("RESULTS.html", images[plot], false)
        yield Tampering(f"{plot} in RESULTS.html", "seals", html, ("RESULTS.html: shows an image",))
    for one, two in combinations(shown, 2):
        yield Tampering(f"{one} and {two} swapped", "seals", swapped(one, two), (f"{one}: is no image",))


def of_crate(original: Path) -> Iterator[Tampering]:
    manifest = parse((original / "manifest.json").read_text(), Manifest)
    present = {one["@id"] for one in json.loads((original / METADATA).read_text())["@graph"]}
    facts = crate_facts(manifest, read_record_lines(original)[0], manifest.files)
    pairs = [(id, key) for id, properties in facts.items() if id in present for key in properties if id != "verify.pyz"]
    for id, key in [
        *subset([pair for pair in pairs if pair[1] == "sha256"], 12),
        *(p for p in pairs if p[0][0] == "#"),
    ]:
        change = entity(id, **{key: other(facts[id][key])})
        yield Tampering(f"{key} of {id}", "seals", change, (f"{METADATA}: {id}: {key}: expected",))
    for what, change in (
        ("a file less", entity(CHAT, **{"@id": "raw/01_chats.csv.gz"})),
        ("no JSON", content(METADATA, lambda text: text[:-9])),
        ("no graph", replaced(METADATA, "@graph", "graph")),
    ):
        yield Tampering(f"RO-Crate: {what}", "seals", change, (f"{METADATA}: ",))
