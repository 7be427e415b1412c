"""Fuse rankings by weighted reciprocal ranks.

G. Cormack, C. Clarke and S. Büttcher, Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning
Methods, 2009. The weights come from measurements (`benchmarks/hybrid_search.py`). Among short texts the encoder alone
is best, unless the query has a number or a code. Among texts longer than the encoder reads, both count the same.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, TypeAlias, TypeVar

Mode: TypeAlias = Literal["hybrid", "dense", "lexical"]
"""How a search ranks: by meaning (dense), by words (lexical), or by both rankings fused (hybrid)."""
FoundBy: TypeAlias = Literal["dense", "lexical", "both"]
K = 60
"""The method's constant: a larger one makes the first ranks differ less."""
DEPTH = 100
"""Length of each fused ranking, unless `top_k` is more."""
CODE_WEIGHT = 2.0
"""Weight of the ranking by numbers and codes: a text with the wanted code precedes texts that are only similar."""
SHORT_WORDS, LONG_WORDS = 80, 160
"""Mean number of words of a namespace's texts up to which word matches have weight 0, and from which on 1."""

T = TypeVar("T", bound=Hashable)


def word_weight(mean_length: float) -> float:
    """Return the weight of the lexical ranking in a namespace whose texts have this many words on average."""
    return min(1.0, max(0.0, (mean_length - SHORT_WORDS) / (LONG_WORDS - SHORT_WORDS)))


def fuse(rankings: Iterable[tuple[Sequence[T], float]]) -> dict[T, float]:
    """Return the fused score of each item of the (ranking, weight) pairs, best first; ties in order of appearance."""
    scores: dict[T, float] = defaultdict(float)
    for ranking, weight in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] += weight / (K + rank)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))
