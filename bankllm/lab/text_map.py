"""A map of texts: two dimensions in which texts of like meaning lie together, and what the islands are about.

places = lay_out(vectors)  # (n, 2)
theme("top_up_failed")  # "top-up"
"""

import re

import numpy as np

from bankllm.errors import UsageError

THEMES = {
    "small talk": "greeting|goodbye|human_agent|out_of_scope",
    "top-up": "top_?up|topping_up",
    "exchange": "exchange|currenc",
    "transfers": "transfer|beneficiary|receiving_money",
    "cash": "cash|atm_|swallowed",
    "payments": "payment|refund|transaction|charge",
    "cards and PIN": "card|pin_|_pin|contactless|apple_pay",
    "account and identity": "identity|account|age_limit|details|funds|country|passcode|phone",
}
"""Theme → what an intent's name holds; the first that fits counts."""
OTHER = "other"
PERPLEXITY = 30
PCA_DIMENSIONS = 50
"""Before t-SNE looks for neighbours: a third of the time, and the same islands."""


def theme(intent: str) -> str:
    """What an intent is about, in a word or two; `other` where its name does not tell."""
    return next((name for name, pattern in THEMES.items() if re.search(pattern, intent.lower())), OTHER)


def lay_out(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """(n, dim) unit vectors → (n, 2): t-SNE (van der Maaten & Hinton 2008) that starts from the principal components.

    Neighbourhoods mean something; the distance between two far islands, and an island's size, do not. The same seed
    gives the same map on one machine; elsewhere it may be turned or torn in other places.
    """
    if len(vectors) < 4:
        raise UsageError(f"Expected at least 4 vectors to draw a map of, found {len(vectors)}.")
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    dimensions = min(PCA_DIMENSIONS, *vectors.shape)
    reduced = PCA(dimensions, svd_solver="full").fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    places = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return np.asarray(places, dtype=np.float64)
