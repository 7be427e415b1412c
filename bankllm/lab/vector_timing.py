"""Time of embedding and searching in a filled `VectorService`, and time until another process finds a stored text."""

import random
import time
from collections.abc import Sequence

import numpy as np

from bankllm.lab.vector_corpus import SearchScope
from bankllm.vectors.fusion import Mode
from bankllm.vectors.service import VectorService

TOP_K = 5
TIMEOUT_S = 1.0
"""A stored row that is not found within this time, in s, counts as not found."""


def time_searches(
    service: VectorService,
    queries: Sequence[str],
    scopes: Sequence[SearchScope],
    *,
    count: int,
    mode: Mode = "dense",
    seed: int = 0,
) -> list[dict[str, object]]:
    """Search up to `count` different queries, each in a random one of the scopes. A seed repeats the same searches.

    Returns one row per search: `mode`, `scope` and `place` (kind and name), `cached` (source of the embedding:
    `memory`, the process's cache, or `no`, the model), `embed_ms`, `search_ms`, `total_ms`, `matches`,
    `foreign_matches` (outside the scope; must be 0), and `top_score`.
    """
    generator = random.Random(seed)
    drawn = generator.sample(list(queries), min(count, len(queries)))
    return [_time_one(service, query, generator.choice(scopes), mode) for query in drawn]


def time_until_found(
    writer: VectorService, reader: VectorService, place: SearchScope, *, count: int, seed: int = 0
) -> list[dict[str, object]]:
    """Store texts through one service and search through another one on the same file until each text is found.

    Returns one row per text: `scope`, `store_ms` (until the writer's call returned), `found_ms` (from then until the
    reader found the text), the number of `searches`, and `found` (within `TIMEOUT_S`). The vectors are random, so that
    no other text is as near.
    """
    vectors = np.random.default_rng(seed).normal(size=(count, writer.embedder.dim))
    rows: list[dict[str, object]] = []
    for number, vector in enumerate(vectors):
        text, searches, found = f"note {seed}-{number}", 0, False
        began = time.perf_counter()
        if place.scope == "customer":
            id_: str = writer.for_user(place.name).store(text, "", "", vector=vector)
        else:
            (id_,) = writer.collection(place.name).add([text], vectors=vector[None])
        stored = now = time.perf_counter()
        while not found and now - stored < TIMEOUT_S:
            found = any(match.id == id_ for match in place.search(reader, text, 1, vector))
            searches, now = searches + 1, time.perf_counter()
        times = {"store_ms": 1000 * (stored - began), "found_ms": 1000 * (now - stored)}
        rows.append({"scope": place.scope, **times, "searches": searches, "found": found})
    return rows


def _time_one(service: VectorService, query: str, place: SearchScope, mode: Mode) -> dict[str, object]:
    hits = service.embedder.counts.hits
    start = time.perf_counter()
    vector = service.embedder.encode([query])[0]
    embedded = time.perf_counter()
    matches = place.search(service, query, TOP_K, vector, mode)
    done = time.perf_counter()
    return {
        "mode": mode,
        "scope": place.scope,
        "place": place.name,
        "cached": "memory" if service.embedder.counts.hits > hits else "no",
        "embed_ms": 1000 * (embedded - start),
        "search_ms": 1000 * (done - embedded),
        "total_ms": 1000 * (done - start),
        "matches": len(matches),
        "foreign_matches": sum(match.id not in place.ids for match in matches),
        "top_score": matches[0].score if matches else "",
    }
