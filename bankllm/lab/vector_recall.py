"""Recall of the search against an exact computation, and agreement of the neighbours' intents: one row per query."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from bankllm.errors import UsageError
from bankllm.lab.vector_corpus import LabelledText, SearchScope
from bankllm.vectors.service import VectorService

TOP_K = 10
VOTES = 5
CHUNK = 256
"""Number of queries whose exact scores are computed at once."""
TOLERANCE = 1e-6
"""Largest difference between a score in float32 and in float64; scores closer than that count as equal."""


def check_neighbours(
    service: VectorService,
    scope: SearchScope,
    texts: Sequence[LabelledText],
    vectors: np.ndarray,
    queries: Sequence[int],
) -> list[dict[str, object]]:
    """Search for texts of the corpus in a scope that contains the whole corpus. Returns one row per query:

    - `text_id`, `actual`: index of the text and its intent;
    - `recall`: share of the ten results that are as near as the exact ten nearest, computed in float64 from `vectors`;
    - `score_error`: largest difference between a score of the search and the exact score;
    - `nearest`, `majority`: intent of the nearest text, and of most of the nearest five, without the text itself;
    - `knn`: intent of most of the nearest five training texts of the same data set.

    `vectors` is (n, dim), one per text; `queries` are indices of `texts`. Raises `UsageError` for 10 texts or fewer, or
    for a different number of vectors.
    """
    if len(texts) <= TOP_K or len(vectors) != len(texts):
        counts = f"{len(texts)} texts and {len(vectors)} vectors"
        raise UsageError(f"Expected more than {TOP_K} texts and one vector per text, found {counts}.")
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    numbers = np.arange(len(texts))
    trained = {
        name: np.array([text.split == "train" and text.dataset == name for text in texts])
        for name in {texts[i].dataset for i in queries}
    }
    chunks = (list(queries[start : start + CHUNK]) for start in range(0, len(queries), CHUNK))
    rows = []
    for query, scores in (pair for part in chunks for pair in zip(part, exact[part] @ exact.T, strict=True)):
        matches = scope.search(service, texts[query].text, TOP_K, vectors[query])
        found = np.array([scope.ids[match.id] for match in matches])
        least = np.partition(scores, -TOP_K)[-TOP_K] - TOLERANCE
        others = [str(match.metadata["intent"]) for match, at in zip(matches, found, strict=True) if at != query]
        candidates = np.flatnonzero(trained[texts[query].dataset] & (numbers != query))
        voters = candidates[np.argsort(-scores[candidates], kind="stable")[:VOTES]]
        row = {"text_id": query, "actual": texts[query].intent, "recall": float(np.sum(scores[found] >= least)) / TOP_K}
        row["score_error"] = max(abs(match.score - scores[at]) for match, at in zip(matches, found, strict=True))
        row |= {"nearest": others[0], "majority": majority(others[:VOTES])}
        rows.append(row | {"knn": majority([texts[at].intent for at in voters])})
    return rows


def majority(intents: Sequence[str]) -> str:
    """Return the most frequent intent, of equally frequent ones the nearest, which is first; empty without intents."""
    return Counter(intents).most_common(1)[0][0] if intents else ""
