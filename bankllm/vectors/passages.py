"""Split texts that are too long for the encoder, which reads about 1,000 characters and ignores the rest."""

import re
import textwrap
from collections.abc import Sequence

import numpy as np

from bankllm.vectors.embedder import Encode

LONG_TEXT, PASSAGE = 1000, 600
"""Characters from which a stored text is embedded in passages, and characters of a passage."""
LONG_QUERY, SENTENCE, MAX_PARTS = 200, 12, 16
"""Characters from which a query is also searched sentence by sentence; shorter sentences are joined."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def embed_texts(encode: Encode, texts: Sequence[str]) -> np.ndarray:
    """Encode n texts to (n, dim); a long text is the mean of its passages, so that its end counts, too."""
    passages = [textwrap.wrap(text, PASSAGE) if len(text) > LONG_TEXT else [text] for text in texts]
    vectors: np.ndarray = encode([passage for each in passages for passage in each])
    if len(vectors) == len(texts):
        return vectors
    starts = np.cumsum([0, *map(len, passages)])[:-1]
    sums = np.add.reduceat(vectors, starts, axis=0)
    unit: np.ndarray = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return unit


def query_parts(query: str) -> list[str]:
    """Return the query, and the sentences of a long one, which may ask for several things."""
    if len(query) <= LONG_QUERY:
        return [query]
    shortest = max(SENTENCE, len(query) // MAX_PARTS)
    parts = [""]
    for sentence in _SENTENCE_END.split(query):
        if len(parts[-1]) < shortest:
            parts[-1] = f"{parts[-1]} {sentence}".strip()
        else:
            parts.append(sentence)
    return [query, *(part for part in parts if part.strip())] if len(parts) > 1 else [query]
