"""Choose the tools of a message: a linear head on the encoder's embeddings and the message's words (about 10 ms).

`benchmarks/understanding.py --train` fits it to the training set of TellerChat and writes `HEAD`.
"""

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors import safe_open

from bankllm.assistant.bank.tools import TOOL_NAMES
from bankllm.assistant.understanding import FOLDER, periods
from bankllm.errors import ModelError

HEAD = FOLDER / "head.safetensors"
Embed = Callable[[list[str]], np.ndarray]
"""n texts → (n, dim) vectors of unit length."""
BUCKETS = 1024
"""Hash buckets for words and pairs of words, of the last message and of the earlier ones."""
WORD_WEIGHT = 2.0
"""Length of the vector of words; embeddings have 1."""
_DATE = re.compile(rf"\b(?:{periods.MONTH}|{periods.WEEKDAY}|{periods.YEAR})\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"[£€$₹]? ?\d[\d.,]*k?"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|\w+ty|hundred|thousand|grand|\w+er quid)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=\w )[A-Z][\w'&]+")


@dataclass(frozen=True)
class ToolHead:
    weight: np.ndarray
    """(tools + 1, features) float32; the last row stands for "no tool"."""
    bias: np.ndarray
    """(tools + 1,) float32."""
    ordinary: Mapping[str, int]
    """Words that are no names in the training set → rank by frequency."""

    @classmethod
    def load(cls, path: Path = HEAD) -> "ToolHead":
        """Read a head. Raises `ModelError` if the file is missing, damaged, or of other tools."""
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata()
                weight, bias = (file.get_tensor(name).astype(np.float32) for name in ("weight", "bias"))
        except Exception as error:  # noqa: BLE001 (safetensors raises its own type for a damaged file)
            raise ModelError(
                f"The head in {path} cannot be read ({error}). Run benchmarks/understanding.py --train."
            ) from None
        if json.loads(metadata["tools"]) != list(TOOL_NAMES):
            raise ModelError(f"The head in {path} knows other tools. Run benchmarks/understanding.py --train.")
        return cls(weight, bias, json.loads(metadata["ordinary"]))

    def probabilities(self, conversations: Sequence[Sequence[str]], embed: Embed) -> np.ndarray:
        """Return (n, tools + 1) probabilities for n conversations, each up to three messages of a customer."""
        logits = features(conversations, embed) @ self.weight.T + self.bias
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def features(conversations: Sequence[Sequence[str]], embed: Embed) -> np.ndarray:
    """Return (n, features): embeddings and words of the last message, of the earlier ones, and of all."""
    last = [messages[-1] for messages in conversations]
    earlier = [" ".join(messages[:-1]) for messages in conversations]
    together = [" ".join(messages) for messages in conversations]
    vectors = embed([*last, *(text or "." for text in earlier), *together])
    follows = np.array([[float(bool(text))] for text in earlier], dtype=np.float32)
    last_vectors, earlier_vectors, all_vectors = np.split(vectors, 3)
    last_words = WORD_WEIGHT * np.array([_words(text) for text in last])
    earlier_words = WORD_WEIGHT / 2 * np.array([_words(text) for text in earlier])
    return np.hstack([last_vectors, earlier_vectors * follows, all_vectors, follows, last_words, earlier_words])


def _words(text: str) -> np.ndarray:
    """Hash words and pairs of words, after names, dates and numbers became one word each; length 1."""
    text = _NAME.sub(" CAP ", _NUMBER.sub(" NUM ", _DATE.sub(" DATE ", text)))
    words = ["^", *re.findall(r"[\w']+|[?!]", text.lower()), "$"]
    vector = np.zeros(BUCKETS, dtype=np.float32)
    for token in [*words, *map(" ".join, pairwise(words))]:
        vector[zlib.crc32(token.encode()) % BUCKETS] = 1
    return vector / np.float32(np.sqrt(vector.sum()))
