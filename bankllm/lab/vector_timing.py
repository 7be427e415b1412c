"""Time searches of a filled `VectorService`, embedding and search apart, and how soon others find what was stored.

rows = time_searches(service, queries, memory.customers, "zipf", count=1000)
rows = time_until_found(service, another_service_on_the_same_file, memory.everything, count=150)
"""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from bankllm.errors import UsageError
from bankllm.evidence.format import format_value
from bankllm.evidence.records import Record
from bankllm.lab.vector_corpus import SearchScope
from bankllm.vectors.service import VectorService

Workload = Literal["distinct", "uniform", "zipf", "repeated"]
ZIPF_EXPONENT = 1.0
"""The n-th most popular query comes 1/n as often as the first (Zipf's law in its plain form)."""
HANDFUL = 10
"""Texts that `repeated` asks over and over."""
TIMEOUT_S = 1.0
"""A stored row that nobody finds within this time is missed."""
AIMS: Mapping[str, tuple[float, int]] = {
    "vectors.total.p95_ms": (15, 15_000),
    "vectors.search.p95_ms": (3, 15_000),
    "vectors.customer.search.p95_ms": (1, 0),
    "vectors.growth.n15000.p95_ms": (3, 0),
    "vectors.growth.n100000.p95_ms": (25, 0),
    "vectors.growth.n1000000.p95_ms": (250, 0),
}
"""Record → what it should stay within, in ms, on two idle cores, and over how many texts at least."""


def draw(queries: Sequence[str], workload: Workload, count: int, seed: int = 0) -> list[str]:
    """What is asked, in order. No query comes twice in `distinct` (at most all of them, then).

    The others draw `count` times with replacement: `uniform` from so many texts as it draws, `zipf` from the same by
    popularity, `repeated` from a handful. Raises `UsageError` where there is nothing to ask.
    """
    if not queries:
        raise UsageError("Expected queries to draw from; found none.")
    generator = random.Random(seed)
    pool = generator.sample(list(queries), min(count, len(queries)))
    if workload == "distinct":
        return pool
    weights = _popularity(workload, len(pool))
    return generator.choices(pool[: len(weights)], weights, k=count)


def expected_hit_rate(workload: Workload, queries: int, count: int) -> float:
    """The hit rate of a cache that forgets nothing, by arithmetic: a text misses once, if it comes at all."""
    if workload == "distinct":
        return 0.0
    weights = np.array(_popularity(workload, min(queries, count)))
    return float(1 - np.sum(1 - (1 - weights / weights.sum()) ** count) / count)


def time_searches(
    service: VectorService,
    queries: Sequence[str],
    places: Sequence[SearchScope],
    workload: Workload,
    *,
    count: int,
    cache: str = "cold",
    seed: int = 0,
    top_k: int = 5,
) -> list[dict[str, object]]:
    """Search what `draw` gives, each in one of the places at random. The same seed asks the same. One row a search:

    - `workload`; `cache`: in which state it was met, in the caller's words; `scope` and `place`: who was searched;
    - `cached`: where the embedding came from: `memory`, `shared` (the store's file), or `no` (the model);
    - `embed_ms`, `search_ms`, `total_ms`: their sum;
    - `matches`, `foreign_matches`: how many came back, and how many of them are not this place's (must be 0);
    - `top_score`: cosine of the best match.
    """
    if not places:
        raise UsageError("Expected places to search; found none.")
    generator = random.Random(seed)
    return [
        {"workload": workload, "cache": cache, **_time_one(service, query, generator.choice(places), top_k)}
        for query in draw(queries, workload, count, seed)
    ]


def time_until_found(
    writer: VectorService, reader: VectorService, place: SearchScope, *, count: int, seed: int = 0
) -> list[dict[str, object]]:
    """Store through one service, search through another on the same file until it is found. One row a text:

    `scope`; `store_ms`: until the writer was told that it is kept; `found_ms`: from then until the reader had it;
    `searches`: how many that took; `found`: whether it came within `TIMEOUT_S`. Vectors are random, so that no other
    text is as near.
    """
    vectors = np.random.default_rng(seed).normal(size=(count, writer.embedder.dim))
    rows: list[dict[str, object]] = []
    for number, vector in enumerate(vectors):
        text = f"note {seed}-{number}"
        began = time.perf_counter()
        if place.scope == "customer":
            id_: str = writer.for_user(place.name).store(text, "", "", vector=vector)
        else:
            (id_,) = writer.collection(place.name).add([text], vectors=vector[None])
        kept = now = time.perf_counter()
        searches, found = 0, False
        while not found and now - kept < TIMEOUT_S:
            found = any(match.id == id_ for match in place.search(reader, text, 1, vector))
            searches, now = searches + 1, time.perf_counter()
        times = {"store_ms": 1000 * (kept - began), "found_ms": 1000 * (now - kept)}
        rows.append({"scope": place.scope, **times, "searches": searches, "found": found})
    return rows


def compare_with_aims(records: Sequence[Record]) -> list[dict[str, str]]:
    """Each aim beside its record: held, not held, or why that cannot be said. Nothing is asserted."""
    known = {record.id: record for record in records}
    rows = []
    for id_, (limit, texts) in AIMS.items():
        record = known.get(id_)
        if record is None or record.value is None or not record.valid:
            verdict = "not measured" if record is None else f"not measured: {record.invalid_because}"
        elif record.conditions.get("texts", 0) < texts:
            verdict = f"cannot be said: the aim is for {texts:,} texts, here are {record.conditions.get('texts', 0):,}"
        else:
            verdict = "held" if record.value <= limit else "not held"
        measured = "–" if record is None else format_value(record)
        rows.append({"record": id_, "aim": f"≤ {limit:g} ms", "measured": measured, "verdict": verdict})
    return rows


def _popularity(workload: Workload, texts: int) -> list[float]:
    """How often each text of a pool comes, in proportion."""
    if workload == "repeated":
        return [1.0] * min(HANDFUL, texts)
    return [1 / rank**ZIPF_EXPONENT if workload == "zipf" else 1.0 for rank in range(1, texts + 1)]


def _time_one(service: VectorService, query: str, place: SearchScope, top_k: int) -> dict[str, object]:
    counts = service.embedder.counts
    in_memory, shared = counts.memory, counts.shared
    start = time.perf_counter()
    vector = service.embedder.encode([query])[0]
    embedded = time.perf_counter()
    matches = place.search(service, query, top_k, vector)
    done = time.perf_counter()
    return {
        "scope": place.scope,
        "place": place.name,
        "cached": "memory" if counts.memory > in_memory else "shared" if counts.shared > shared else "no",
        "embed_ms": 1000 * (embedded - start),
        "search_ms": 1000 * (done - embedded),
        "total_ms": 1000 * (done - start),
        "matches": len(matches),
        "foreign_matches": sum(match.id not in place.ids for match in matches),
        "top_score": matches[0].score if matches else "",
    }
