"""Map of texts: a two-dimensional projection with similar texts close together, and a theme per intent.

points = project_2d(vectors)  # (n, 2)
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
"""Theme → pattern in the name of an intent; the first match counts."""
OTHER = "other"
PERPLEXITY = 30
PCA_DIMENSIONS = 50
"""Dimensions before t-SNE. Without this reduction, t-SNE takes three times as long for the same clusters."""


def theme(intent: str) -> str:
    """Return the theme of an intent; `other` if no pattern matches its name."""
    return next((name for name, pattern in THEMES.items() if re.search(pattern, intent.lower())), OTHER)


def project_2d(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Project (n, dim) unit vectors to (n, 2) with t-SNE (van der Maaten & Hinton 2008), initialised with PCA.

    Neighbourhoods are meaningful; distances between clusters and sizes of clusters are not. The same seed gives the
    same map on the same machine; on another machine the map may differ.

    Raises `UsageError` for fewer than 4 vectors.
    """
    if len(vectors) < 4:
        raise UsageError(f"Expected at least 4 vectors for a map, found {len(vectors)}.")
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    dimensions = min(PCA_DIMENSIONS, *vectors.shape)
    reduced = PCA(dimensions, svd_solver="full").fit_transform(vectors)
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    points = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return np.asarray(points, dtype=np.float64)
