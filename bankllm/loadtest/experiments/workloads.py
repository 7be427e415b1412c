"""Workloads that differ in how often a text repeats, to measure the caches: cold, warm, Zipf and one text."""

import random
from collections.abc import Sequence

from bankllm.errors import UsageError

ZIPF_TEXTS = 200
ZIPF_DRAWS = 4096
"""Length of the Zipf list. A load draws uniformly from a list; a list this long approximates the Zipf weights."""


def workloads(texts: Sequence[str], seed: int = 0) -> dict[str, list[str]]:
    """Return workload name → messages for `run_load`, in the order in which they must be sent to a fresh server.

    - `cold`, `warm`: all texts, uniformly. With the same seed, `warm` repeats the requests of `cold`.
    - `zipf`: the k-th of up to 200 texts occurs 1/k as often as the first.
    - `repeated`: one text of median length, so that it takes as long to encode as the others.

    Raises `UsageError` if `texts` is empty.
    """
    if not texts:
        raise UsageError("Expected at least 1 text, found none.")
    generator = random.Random(seed)
    sample = generator.sample(list(texts), min(ZIPF_TEXTS, len(texts)))
    zipf = generator.choices(sample, weights=[1 / rank for rank in range(1, len(sample) + 1)], k=ZIPF_DRAWS)
    median_length = sorted(texts, key=len)[len(texts) // 2]
    return {"cold": list(texts), "warm": list(texts), "zipf": zipf, "repeated": [median_length]}
