"""Real texts for a memory: every distinct one of the data sets, once in a shared collection and once with a customer.

texts = gather(load("auto"))
memory = fill(service, texts, service.embedder.encode([text.text for text in texts], share=False))
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from bankllm.datasets import Dataset, load, normalise
from bankllm.vectors.rows import Match
from bankllm.vectors.service import Message, VectorService

Scope = Literal["all", "customer"]
COLLECTION = "intents"
MESSAGES = 200
"""Of one customer, about: what a busy one may write in a year."""
FEWEST_CUSTOMERS = 5
BATCH = 1000
"""Texts of the collection that one call adds."""


class LabelledText(NamedTuple):
    """A text, what it is about, and where it comes from."""

    text: str
    intent: str
    dataset: str
    split: str


@dataclass(frozen=True)
class SearchScope:
    """Where a search looks, and all that it may find there."""

    scope: Scope
    name: str
    """A customer's id, or the collection's name."""
    ids: Mapping[str, int]
    """Id of a row → position of its text in the corpus."""

    def search(self, service: VectorService, query: str, top_k: int, vector: np.ndarray | None = None) -> list[Match]:
        """The nearest texts of this place alone."""
        if self.scope == "customer":
            return service.semantic_search(query, top_k, user_id=self.name, vector=vector)
        return service.semantic_search(query, top_k, collection=self.name, vector=vector)


@dataclass(frozen=True)
class FilledMemory:
    """What `fill` stored, and what it took."""

    everything: SearchScope
    customers: tuple[SearchScope, ...]
    rows: list[dict[str, object]]
    """One a call that stored: `scope`, `place`, `vectors`, `seconds`; embedding is not in it."""


def gather(data: Dataset, seed: int = 0) -> list[LabelledText]:
    """Every distinct text of `data`, and of Teller77 where `data` is another set; both splits, in random order.

    Two texts are the same where they are after normalisation; the first label counts, `data`'s training split first.
    """
    sources = [data]
    if data.name.partition("[")[0] != "teller77":
        sources.append(load("teller77"))
    found: dict[str, LabelledText] = {}
    for source in sources:
        for split, rows in (("train", source.train), ("test", source.test)):
            for text, label in zip(rows.texts, rows.labels, strict=True):
                found.setdefault(normalise(text), LabelledText(text, source.label_names[label], source.name, split))
    texts = list(found.values())
    random.Random(seed).shuffle(texts)
    return texts


def fill(service: VectorService, texts: Sequence[LabelledText], vectors: np.ndarray) -> FilledMemory:
    """Store each text twice: in the collection that all share, and as a message of one customer.

    `vectors` is (n, dim), the embedding of each text.
    """
    rows: list[dict[str, object]] = []
    shared: dict[str, int] = {}
    collection = service.collection(COLLECTION)
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        about = [{"intent": text.intent} for text in part]
        began = time.perf_counter()
        ids = collection.add([text.text for text in part], metadata=about, vectors=vectors[start : start + BATCH])
        rows.append(_stored("all", COLLECTION, len(ids), time.perf_counter() - began))
        shared |= {id_: start + number for number, id_ in enumerate(ids)}
    customers = []
    count = max(FEWEST_CUSTOMERS, len(texts) // MESSAGES)
    for number in range(count):
        name, mine = f"user-{number + 1:03d}", range(number, len(texts), count)
        turns = [Message(texts[position].text, "Noted.", texts[position].intent) for position in mine]
        began = time.perf_counter()
        kept = service.for_user(name).store_many(turns, vectors=vectors[mine.start : mine.stop : mine.step])
        rows.append(_stored("customer", name, len(kept), time.perf_counter() - began))
        customers.append(SearchScope("customer", name, dict(zip(kept, mine, strict=True))))
    return FilledMemory(SearchScope("all", COLLECTION, shared), tuple(customers), rows)


def _stored(scope: Scope, place: str, count: int, seconds: float) -> dict[str, object]:
    return {"scope": scope, "place": place, "vectors": count, "seconds": seconds}
