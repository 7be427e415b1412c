"""Find messages of customers in distress: a linear head on the embedding and the words, and certain phrases.

`benchmarks/care.py --train` fits the head to messages in `benchmarks/data`, and `benchmarks/care.py` measures it.
"""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bankllm.assistant.linear_head import LinearHead, hashed_words
from bankllm.errors import ModelError
from bankllm.settings import Distress

FOLDER = Path(__file__).parents[2] / "data" / "care"
HEAD = FOLDER / "head.safetensors"
KINDS: tuple[Distress, ...] = get_args(Distress)
LABELS = ("ordinary", *KINDS)
THRESHOLD = 0.44
"""Probability of any distress from which a message gets the fixed reply: about 2 % of ordinary messages full of
look-alikes reach it."""
SURE = 0.8
"""Probability from which the fixed reply also goes before a problem that the intent classifier recognises. Below it,
the problem is answered, with the offer of a person: 0.8 % instead of 1.9 % of Banking77's messages get the fixed reply,
and 2 of 171 messages of distress that are found get only the offer."""
BUCKETS = 8192
"""Hash buckets for words and pairs of words."""
_NUMBER = re.compile(r"[£€$]?\d[\d.,]*k?")


@cache
def texts() -> dict[str, dict[str, Any]]:
    """The replies and certain phrases by kind of distress, see the comments of the file."""
    return tomllib.loads((FOLDER / "replies.toml").read_text(encoding="utf-8"))


@cache
def packaged_head() -> LinearHead:
    return LinearHead.load(HEAD, LABELS, "benchmarks/care.py --train")


@cache
def _phrases() -> dict[Distress, re.Pattern[str]]:
    return {kind: re.compile("|".join(texts()[kind]["certain"]), re.IGNORECASE) for kind in KINDS}


def features(message: str, vector: np.ndarray) -> np.ndarray:
    """(dim,) embedding of a message → (dim + words,) features."""
    words = hashed_words(_NUMBER.sub(" NUM ", message.replace("’", "'")), BUCKETS)
    return np.concatenate([vector, words]).astype(np.float32)


def detect(message: str, vector: np.ndarray, head: LinearHead | None = None) -> tuple[Distress | None, float]:
    """Return the kind of distress, if any, and its probability, which is 1 for a certain phrase.

    Raises `ModelError` for an embedding of another model than the head's. Certain phrases count before the head, which
    may miss them in a long message.
    """
    for kind, phrase in _phrases().items():
        if phrase.search(message.replace("’", "'")):
            return kind, 1.0
    head, row = head or packaged_head(), features(message, vector)
    if len(row) != head.weight.shape[1]:
        raise ModelError(
            f"Messages of distress are found in embeddings of {head.metadata['encoder']}; got one of {len(vector)} "
            "numbers. Pass the embedding of that model, or run benchmarks/care.py --train with yours."
        )
    shares = head.probabilities(row[np.newaxis])[0]
    distress = float(1 - shares[0])
    return (KINDS[int(shares[1:].argmax())] if distress >= THRESHOLD else None), distress
