"""Whether the neighbours found are the nearest there are, and whether they mean the same: one row a query.

rows = check_neighbours(service, memory.everything, texts, vectors, queries)
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bankllm.errors import UsageError
from bankllm.lab.vector_corpus import LabelledText, SearchScope
from bankllm.vectors.service import VectorService

TOP_K = 10
VOTES = 5
TOLERANCE = 1e-6
"""A score in float32 is that far from one in float64; what lies closer together than that is equally near."""
CHUNK = 256


def check_neighbours(
    service: VectorService,
    place: SearchScope,
    texts: Sequence[LabelledText],
    vectors: np.ndarray,
    queries: Sequence[int],
) -> list[dict[str, object]]:
    """Search for texts of the corpus (by position) in a place that holds all of it, `vectors` (n, dim). One row each:

    - `text_id`: its position; `actual`: its intent;
    - `recall`: the share of the ten found that are as near as the ten nearest by a product in float64 over `vectors`,
      which passes by the store; `score_error`: by how much a score differs from that at most;
    - `nearest`, `majority`: the intent of the nearest text and of most of the nearest five, the text itself left out;
    - `knn`: the intent of most of the nearest five among its own data set's training texts alone.
    """
    if len(texts) <= TOP_K or len(vectors) != len(texts):
        raise UsageError(
            f"Expected more than {TOP_K} texts with a vector each, found {len(texts)} texts and {len(vectors)} vectors."
        )
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    teaching = {
        name: np.array([text.split == "train" and text.dataset == name for text in texts])
        for name in {texts[query].dataset for query in queries}
    }
    rows = []
    for start in range(0, len(queries), CHUNK):
        part = list(queries[start : start + CHUNK])
        for query, scores in zip(part, exact[part] @ exact.T, strict=True):
            found = _check_found(service, place, texts[query].text, vectors[query], query, scores)
            taught = np.flatnonzero(teaching[texts[query].dataset] & (np.arange(len(texts)) != query))
            nearest = taught[np.argsort(-scores[taught], kind="stable")[:VOTES]]
            knn = majority([texts[at].intent for at in nearest]) if len(nearest) else ""
            rows.append({"text_id": query, "actual": texts[query].intent, **found, "knn": knn})
    return rows


def majority(intents: Sequence[str]) -> str:
    """The most frequent of the intents; of equally frequent ones the nearest, which stands first."""
    return Counter(intents).most_common(1)[0][0]


def _check_found(
    service: VectorService, place: SearchScope, text: str, vector: np.ndarray, query: int, scores: np.ndarray
) -> dict[str, object]:
    """What the service finds for the corpus' text number `query`, beside the exact (n,) scores."""
    matches = place.search(service, text, TOP_K, vector)
    found = np.array([place.ids[match.id] for match in matches])
    least = np.partition(scores, -TOP_K)[-TOP_K] - TOLERANCE
    others = [str(match.metadata["intent"]) for match, at in zip(matches, found, strict=True) if at != query]
    return {
        "recall": float(np.sum(scores[found] >= least)) / TOP_K,
        "score_error": max(abs(match.score - scores[at]) for match, at in zip(matches, found, strict=True)),
        "nearest": others[0],
        "majority": majority(others[:VOTES]),
    }
