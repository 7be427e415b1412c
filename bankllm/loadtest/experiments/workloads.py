"""What the customers say, for an honest look at caches: new texts, the same again, a few favourites, one alone.

for name, messages in workloads(data.test.texts, seed=0).items():
    run_load(server.url, "open-loop", messages=messages, ...)
"""

import random
from collections.abc import Sequence

from bankllm.errors import UsageError

ZIPF_TEXTS = 200
"""How many different texts the Zipf workload has, at most."""
DRAWN = 4096
"""A load draws uniformly from a list; this long, a list of draws is as good as its weights."""


def workloads(texts: Sequence[str], seed: int = 0) -> dict[str, list[str]]:
    """Name → messages for `run_load`, in the order in which they must be sent to a fresh server.

    `cold` and `warm` are the same texts, each alike often: with one seed, `warm` says again what `cold` said first.
    In `zipf` the k-th of 200 texts comes 1/k as often as the first. `repeated` is one text of middling length, so
    that it is no quicker to read than the others. Raises `UsageError` without texts.
    """
    if not texts:
        raise UsageError("Expected texts to ask with; found none.")
    generator = random.Random(seed)
    asked = generator.sample(list(texts), min(ZIPF_TEXTS, len(texts)))
    zipf = generator.choices(asked, weights=[1 / rank for rank in range(1, len(asked) + 1)], k=DRAWN)
    middling = sorted(texts, key=len)[len(texts) // 2]
    return {"cold": list(texts), "warm": list(texts), "zipf": zipf, "repeated": [middling]}
