"""Find messages of customers in distress: a linear head on the embedding and the words, and certain phrases.

`benchmarks/care.py --train` fits the head to messages in `benchmarks/data`, and `benchmarks/care.py` measures it.
"""

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bankllm.assistant.actions.yes_no import is_yes, nearly_yes
from bankllm.assistant.linear_head import LinearHead, hashed_words
from bankllm.errors import ModelError
from bankllm.settings import Distress

FOLDER = Path(__file__).parents[2] / "data" / "care"
HEAD = FOLDER / "head.safetensors"
KINDS: tuple[Distress, ...] = get_args(Distress)
LABELS = ("ordinary", *KINDS)
POSSIBLE, THRESHOLD, SURE = 0.48, 0.6, 0.95
"""Probabilities of any distress: from the first, the reply ends with the offer of a person; from the second, a message
gets the fixed reply; from the third also one that may mean something else, because the intent classifier recognises its
topic or because it continues a conversation. About 2, 1.4 and 0.3 % of ordinary messages full of look-alikes reach
them, chosen on every other message of `benchmarks/care.py`."""
LIKELIEST = 0.999
"""Highest probability without a certain phrase."""
DESPAIR = 0.2
"""Share of `self_harm` from which trouble with money counts as despair: the reply also says what to do in danger."""
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
def _phrases(key: str) -> dict[Distress, re.Pattern[str]]:
    return {kind: re.compile("|".join(texts()[kind][key]), re.IGNORECASE) for kind in KINDS if key in texts()[kind]}


def features(message: str, vector: np.ndarray) -> np.ndarray:
    """(dim,) embedding of a message → (dim + words,) features."""
    words = hashed_words(_NUMBER.sub(" NUM ", message.replace("’", "'")), BUCKETS)
    return np.concatenate([vector, words]).astype(np.float32)


def detect(message: str, vector: np.ndarray, head: LinearHead | None = None) -> tuple[Distress, float]:
    """Return the likeliest kind of distress and the probability of any.

    It is 1 for a certain phrase, at least `THRESHOLD` for a likely one, and at least `POSSIBLE` for one of `offered`.
    Certain phrases count before the head, which may miss them in a long message.

    Raises `ModelError` for an embedding of another model than the head's.
    """
    said = message.replace("’", "'")
    if is_yes(message) or nearly_yes(message):
        return KINDS[0], 0.0  # "that would be good" agrees to what was asked
    for kind, phrase in _phrases("certain").items():
        if phrase.search(said):
            return kind, 1.0
    head, row = head or packaged_head(), features(message, vector)
    if len(row) != head.weight.shape[1]:
        raise ModelError(
            f"Messages of distress are found in embeddings of {head.metadata['encoder']}; got one of {len(vector)} "
            "numbers. Pass the embedding of that model, or run benchmarks/care.py --train with yours."
        )
    ordinary, *shares = head.probabilities(row[np.newaxis])[0]
    for key, least in (("likely", THRESHOLD), ("offered", POSSIBLE)):
        for kind, phrase in _phrases(key).items():
            if 1 - ordinary < least and phrase.search(said):
                return kind, least
    kind, despair = KINDS[int(np.argmax(shares))], shares[KINDS.index("self_harm")]
    return "self_harm" if kind == "cannot_pay" and despair >= DESPAIR else kind, min(float(1 - ordinary), LIKELIEST)
