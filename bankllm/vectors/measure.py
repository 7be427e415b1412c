"""Time searches of a filled `VectorService`, embedding and search apart, one row a search.

messages, queries = deal_out(load("auto"), limit=5000, customers=50)
rows = time_searches(service, queries, list(messages), "distinct", count=1000)
"""

import random
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

from bankllm.datasets import Dataset, load, normalise
from bankllm.errors import UsageError
from bankllm.vectors.service import Message, VectorService

Workload = Literal["distinct", "repeated"]
ZIPF_EXPONENT = 1.0
"""The n-th most popular query comes 1/n as often as the first (Zipf's law in its plain form)."""


class Query(NamedTuple):
    """A text to search for, and the intent that its neighbours should share."""

    text: str
    intent: str


def deal_out(
    data: Dataset, *, limit: int, customers: int, seed: int = 0
) -> tuple[dict[str, list[Message]], list[Query]]:
    """Spread distinct texts over customers as messages, and keep other texts back as queries.

    Messages are the training texts of `data` and all of Teller77, at most `limit`; queries are `data`'s test texts.
    No query is a stored message, and no text occurs twice after normalisation.
    """
    teller = load("teller77")
    seen: set[str] = set()
    queries = _distinct(data, "test", seen)
    stored = _distinct(data, "train", seen)
    if teller.name != data.name:
        stored += _distinct(teller, "train", seen) + _distinct(teller, "test", seen)
    random.Random(seed).shuffle(stored)
    messages: dict[str, list[Message]] = {f"user-{n:03d}": [] for n in range(1, customers + 1)}
    names = list(messages)
    for number, (text, intent) in enumerate(stored[:limit]):
        messages[names[number % customers]].append(Message(text, "Noted.", intent))
    return {user: turns for user, turns in messages.items() if turns}, queries


def time_searches(
    service: VectorService,
    queries: Sequence[Query],
    users: Sequence[str],
    workload: Workload,
    *,
    count: int,
    seed: int = 0,
    top_k: int = 5,
) -> list[dict[str, object]]:
    """Search `count` times for random users. `distinct` asks no query twice (at most `len(queries)` searches);
    `repeated` draws queries by Zipf's law. One row a search:

    - `workload`, `user_id`;
    - `cached`: where the embedding came from: `memory`, `shared` (the store's file), or `no` (the model);
    - `embed_ms`, `search_ms`, `total_ms`: their sum;
    - `matches`, `foreign_matches`: how many came back, and how many of them are not this user's (must be 0);
    - `top_score`: cosine of the best match; `same_intent`: whether it shares the query's intent.
    """
    if not queries or not users:
        raise UsageError(f"Expected queries and users; found {len(queries)} and {len(users)}.")
    generator = random.Random(seed)
    if workload == "distinct":
        asked = generator.sample(list(queries), min(count, len(queries)))
    else:
        weights = [1 / rank**ZIPF_EXPONENT for rank in range(1, len(queries) + 1)]
        asked = generator.choices(list(queries), weights, k=count)
    kept = {user: {row["message_id"] for row in service.export_user(user)} for user in users}
    return [_time_one(service, query, user := generator.choice(users), kept[user], workload, top_k) for query in asked]


def _time_one(
    service: VectorService, query: Query, user: str, own_ids: set[str], workload: Workload, top_k: int
) -> dict[str, object]:
    counts = service.embedder.counts
    in_memory, shared = counts.memory, counts.shared
    start = time.perf_counter()
    vector = service.embedder.encode([query.text])[0]
    embedded = time.perf_counter()
    matches = service.semantic_search(query.text, top_k, user_id=user, vector=vector)
    done = time.perf_counter()
    return {
        "workload": workload,
        "user_id": user,
        "cached": "memory" if counts.memory > in_memory else "shared" if counts.shared > shared else "no",
        "embed_ms": 1000 * (embedded - start),
        "search_ms": 1000 * (done - embedded),
        "total_ms": 1000 * (done - start),
        "matches": len(matches),
        "foreign_matches": sum(match.id not in own_ids for match in matches),
        "top_score": matches[0].score if matches else "",
        "same_intent": bool(matches) and matches[0].metadata["intent"] == query.intent,
    }


def _distinct(data: Dataset, split: Literal["train", "test"], seen: set[str]) -> list[Query]:
    """Texts of a split that were not seen before, after normalisation; they are seen then."""
    rows = data.train if split == "train" else data.test
    found = []
    for text, label in zip(rows.texts, rows.labels, strict=True):
        if (key := normalise(text)) not in seen:
            seen.add(key)
            found.append(Query(text, data.label_names[label]))
    return found
