"""Choose the tools of a message: a linear head on the encoder's embeddings and the message's words (about 10 ms).

`benchmarks/understanding.py --train` fits it to the training set of TellerChat and writes `HEAD`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bankllm.assistant.bank.tools import TOOL_NAMES
from bankllm.assistant.linear_head import BUCKETS, LinearHead, hashed_words
from bankllm.assistant.understanding import FOLDER, calendar_words

HEAD = FOLDER / "head.safetensors"
Embed = Callable[[list[str]], np.ndarray]
"""n texts → (n, dim) vectors of unit length."""
WORD_WEIGHT = 2.0
"""Length of the vector of words; embeddings have 1."""
_DATE = re.compile(rf"\b(?:{calendar_words.MONTH}|{calendar_words.WEEKDAY}|{calendar_words.YEAR})\b", re.IGNORECASE)
_NUMBER = re.compile(
    r"[£€$₹]? ?\d[\d.,]*k?"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|\w+ty|hundred|thousand|grand|\w+er quid)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=\w )[A-Z][\w'&]+")


@dataclass(frozen=True)
class ToolHead:
    linear: LinearHead
    """Its classes are the tools, and "no tool" as the last one."""
    ordinary: Mapping[str, int]
    """Words that are no names in the training set → rank by frequency."""

    @classmethod
    def load(cls, path: Path = HEAD) -> "ToolHead":
        """Read a head. Raises `ModelError` if the file is missing, damaged, or of other tools."""
        linear = LinearHead.load(path, TOOL_NAMES, "benchmarks/understanding.py --train")
        return cls(linear, json.loads(linear.metadata["ordinary"]))

    def fits(self, encoder: str, dim: int) -> bool:
        """Whether the head was trained on this encoder, whose vectors have `dim` numbers."""
        return self.linear.metadata["encoder"] == encoder and self.linear.weight.shape[1] == 3 * dim + 1 + 2 * BUCKETS

    def probabilities(self, conversations: Sequence[Sequence[str]], embed: Embed) -> np.ndarray:
        """Return (n, tools + 1) probabilities for n conversations, each up to three messages of a customer."""
        return self.linear.probabilities(features(conversations, embed))


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
    """The hashed words, after names, dates and numbers became one word each."""
    return hashed_words(_NAME.sub(" CAP ", _NUMBER.sub(" NUM ", _DATE.sub(" DATE ", text))))
