"""How well each search mode ranks texts for questions with known answers: one row per question, and its records."""

from collections.abc import Mapping, Sequence
from itertools import product
from math import isnan, nan
from typing import Any, NamedTuple

import numpy as np

from bankllm.evidence.format import format_value
from bankllm.evidence.records import Record
from bankllm.evidence.run import Run
from bankllm.lab.plots import Interval
from bankllm.vectors.fusion import Mode
from bankllm.vectors.namespaces import Collection

MODES: tuple[Mode, ...] = ("dense", "lexical", "hybrid")
HALVES: tuple[Mode, ...] = ("dense", "lexical")
TOP_K, DEPTH = 10, 60
METRICS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    **{f"recall_{k}": (f"Recall@{k}", "recall_at", {"k": k}) for k in (1, 5, 10)},
    "mrr": ("MRR@10", "reciprocal_rank", {}),
    "ndcg": ("nDCG@10", "ndcg", {}),
}
"""Last part of a record's id → name, statistic and its parameters."""
SIGNIFICANT = 0.05


class LabelledQuestion(NamedTuple):
    text: str
    labels: Sequence[str]
    """A text is right if its label is one of these."""
    relevant: int
    """Number of right texts in the collection."""
    kind: str = ""


def rank(
    place: Collection, questions: Sequence[LabelledQuestion], vectors: np.ndarray, label: str, *, once: bool = False
) -> list[dict[str, object]]:
    """Search for each question, whose embeddings are `vectors` (n, dim), in each mode. Returns one row per question:

    `question` (its index), `kind`, `relevant`, and per mode the places of the right texts among the first ten, as
    `evidence.statistics.retrieval` reads them. `label` is the key of a text's label in its metadata; with `once`, only
    the best text of each label has a place.
    """
    rows: list[dict[str, object]] = []
    for number, (question, vector) in enumerate(zip(questions, vectors, strict=True)):
        row: dict[str, object] = {"question": number, "kind": question.kind, "relevant": question.relevant}
        for mode in MODES:
            found = place.search(question.text, DEPTH if once else TOP_K, mode=mode, vector=vector)
            labels = [str(match.metadata[label]) for match in found]
            first = (list(dict.fromkeys(labels)) if once else labels)[:TOP_K]
            row[mode] = " ".join(str(at) for at, name in enumerate(first, 1) if name in question.labels)
        rows.append(row)
    return rows


def measure(run: Run, name: str, over: str, kinds: Sequence[str] = ()) -> None:
    """Make records of the rows that `rank` returned and that were written as `name`; `over` says what was searched.

    Per mode, for all questions and for each kind: the `METRICS`. For hybrid against each half: the difference of
    nDCG@10, and the p-value of its permutation test.
    """
    for mode, kind, metric in product(MODES, ("", *kinds), METRICS):
        what, statistic, parameters = METRICS[metric]
        mine = {"kind": kind} if kind else {}
        common: dict[str, Any] = {"raw": name, "unit": "share", "where": mine}
        common["conditions"] = {**mine, "mode": mode}
        title = f"{what}, {mode}, {over}" + (f", questions of the kind {kind}" if kind else "")
        key = ".".join(filter(None, ("vectors", name, mode, kind, metric)))
        run.measure(key, statistic, title=title, places=mode, **parameters, **common)
    for half in HALVES:
        key, title = f"vectors.{name}.hybrid_{half}", f"nDCG@10, hybrid − {half}, {over}"
        common = {"raw": name, "a": "hybrid", "b": half}
        run.measure(f"{key}.difference", "ndcg_difference", title=title, unit="share", **common)
        run.measure(f"{key}.p", "ndcg_permutation", title=f"{title}, permutation test", unit="p", **common)


def values(records: Sequence[Record], name: str, metric: str, kind: str = "") -> dict[str, Interval]:
    """Return mode → value and interval (NaN if there are too few questions) of a metric that `measure` recorded."""
    known = {record.id: record for record in records}
    found = {mode: known[".".join(filter(None, ("vectors", name, mode, kind, metric)))] for mode in MODES}
    points = {mode: record.value or 0.0 for mode, record in found.items()}
    return {mode: (value, *(found[mode].ci95 or (nan, nan))) for mode, value in points.items()}


def compare_with_halves(records: Sequence[Record], names: Mapping[str, str]) -> list[dict[str, str]]:
    """Return one row per set of questions (name → title): nDCG@10 of each mode, and whether hybrid is higher or lower
    than the better half, at the level `SIGNIFICANT`.
    """
    known = {record.id: record for record in records}
    rows = []
    for name, title in names.items():
        modes = {mode: known[f"vectors.{name}.{mode}.ndcg"] for mode in MODES}
        half = max(HALVES, key=lambda mode: modes[mode].value or 0.0)
        difference, p = (known[f"vectors.{name}.hybrid_{half}.{part}"] for part in ("difference", "p"))
        verdict = "equal"
        if difference.value:
            verdict = "hybrid is higher" if difference.value > 0 else "hybrid is lower"
            verdict += "" if p.value is not None and p.value < SIGNIFICANT else ", not significantly"
        about = {"difference": f"{100 * (difference.value or 0.0):+.1f} points", "p": f"{p.value or 0.0:.4f}"}
        shown: dict[str, str] = {mode: format_value(record) for mode, record in modes.items()}
        rows.append({"questions": title, **shown, "better half": half, **about, "verdict": verdict})
    return rows


def overview(records: Sequence[Record], names: Mapping[str, str]) -> list[dict[str, str]]:
    """Return one row per set of questions (name → title) and mode: the `METRICS` in % with their 95 % intervals."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for (name, title), (metric, (what, *_)) in product(names.items(), METRICS.items()):
        for mode, interval in values(records, name, metric).items():
            row = rows.setdefault((name, mode), {"questions": title, "mode": mode})
            value, low, high = (f"{100 * part:.1f}" for part in interval)
            row[what] = value if isnan(interval[1]) else f"{value} ({low}–{high})"
    return list(rows.values())
