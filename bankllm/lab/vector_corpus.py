"""Fill a vector service with the texts of the data sets, each in a shared collection and in a customer's messages."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from bankllm.datasets import Dataset, load, normalise
from bankllm.vectors.fusion import Mode
from bankllm.vectors.rows import Match
from bankllm.vectors.service import Message, VectorService

Scope = Literal["all", "customer"]
COLLECTION = "intents"
MESSAGES_PER_CUSTOMER = 200
"""Approximate number of messages per customer; an active customer may write as many in a year."""
MIN_CUSTOMERS = 5
BATCH = 1000


class LabelledText(NamedTuple):
    """A text, its intent, and its data set and split (`train` or `test`)."""

    text: str
    intent: str
    dataset: str
    split: str


@dataclass(frozen=True)
class SearchScope:
    """The rows that a search covers: those of the collection or of the customer with this name."""

    scope: Scope
    name: str
    ids: Mapping[str, int]
    """Id of each row → index of its text in the corpus."""

    def search(
        self,
        service: VectorService,
        query: str,
        top_k: int,
        vector: np.ndarray | None = None,
        mode: Mode = "dense",
    ) -> list[Match]:
        """Return the `top_k` best texts of this scope. `vector` is the embedding of `query`, if it is known."""
        place = service.for_user(self.name) if self.scope == "customer" else service.collection(self.name)
        return place.search(query, top_k, mode=mode, vector=vector)


class FilledMemory(NamedTuple):
    """The content of a filled service, and the time to store it."""

    everything: SearchScope
    customers: tuple[SearchScope, ...]
    rows: list[dict[str, object]]
    """One row per storing call: `scope`, `place`, `vectors`, `seconds` (without the embedding)."""


def gather(data: Dataset, seed: int = 0) -> list[LabelledText]:
    """Return the distinct (after normalisation) texts of `data`, and of Teller77 if that is another set, shuffled."""
    sources = [data] if data.name.startswith("teller77") else [data, load("teller77")]
    by_text: dict[str, LabelledText] = {}
    for source in sources:
        for split, rows in (("train", source.train), ("test", source.test)):
            for text, label in zip(rows.texts, rows.labels, strict=True):
                by_text.setdefault(normalise(text), LabelledText(text, source.label_names[label], source.name, split))
    texts = list(by_text.values())
    random.Random(seed).shuffle(texts)
    return texts


def fill(service: VectorService, texts: Sequence[LabelledText], vectors: np.ndarray) -> FilledMemory:
    """Store each text, with its row of `vectors` (n, dim), in the shared collection and as a customer's message."""
    rows: list[dict[str, object]] = []
    shared: dict[str, int] = {}
    collection = service.collection(COLLECTION)
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        about = [{"intent": text.intent} for text in part]
        began = time.perf_counter()
        ids = collection.add([text.text for text in part], metadata=about, vectors=vectors[start : start + BATCH])
        rows.append(_stored("all", COLLECTION, len(ids), began))
        shared |= {id_: start + number for number, id_ in enumerate(ids)}
    customers = []
    count = max(MIN_CUSTOMERS, len(texts) // MESSAGES_PER_CUSTOMER)
    for number in range(count):
        name, indices = f"user-{number + 1:03d}", range(number, len(texts), count)
        turns = [Message(texts[position].text, "Noted.", texts[position].intent) for position in indices]
        began = time.perf_counter()
        kept = service.for_user(name).store_many(turns, vectors=vectors[indices.start : indices.stop : indices.step])
        rows.append(_stored("customer", name, len(kept), began))
        customers.append(SearchScope("customer", name, dict(zip(kept, indices, strict=True))))
    return FilledMemory(SearchScope("all", COLLECTION, shared), tuple(customers), rows)


def _stored(scope: Scope, place: str, count: int, began: float) -> dict[str, object]:
    return {"scope": scope, "place": place, "vectors": count, "seconds": time.perf_counter() - began}
