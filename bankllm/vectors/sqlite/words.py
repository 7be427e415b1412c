"""The words of a namespace's texts, in memory, with exact BM25 scores.

The index is derived from the rows' texts and aligned with a `Matrix`: both are loaded, extended and dropped together.
So a score depends only on texts of the namespace, and deleting a row leaves no copy of its words. SQLite's FTS5 was
measured and not used: its `bm25()` counts the rows of all customers, deleted words stay in its pages until the index of
all customers is rewritten, and reading the postings of a question from it takes 20 ms over 15,000 texts, here 1 ms.

BM25: S. Robertson and H. Zaragoza, The Probabilistic Relevance Framework, 2009, with the IDF of Lucene (never
negative).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

K1, B = 1.2, 0.75
CODE_SHARE = 0.3
"""Share of the query's information, measured by IDF, from which its numbers and codes are ranked separately."""
WORD_BYTES = 120
"""Approximate bytes of one word in the vocabulary."""

_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['.&/_-][^\W_]+)*")
_MARK = re.compile(r"['.,&/_-]")
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+")
_APOSTROPHES = str.maketrans("\u2018\u2019\u02bc", "'''")


def words(text: str) -> list[str]:
    """Return the words of a text, without case, accents and plural endings.

    A number is one word, without thousands separators and trailing zeros (`£1,003.50` → `1003.5`). A name or code with
    a mark inside gives its parts and the whole (`CR-203` → `cr`, `203`, `cr203`; `O'Brien` → `brien`, `obrien`).
    """
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    found: list[str] = []
    for word in _WORD.findall(text.translate(_APOSTROPHES).casefold()):
        if word.isalnum():
            found.append(_singular(word))
        elif _NUMBER.fullmatch(word):
            whole, _, decimals = word.replace(",", "").partition(".")
            found.append(f"{whole}.{decimals}".rstrip("0").rstrip("."))
        else:
            parts = _MARK.split(word)
            found += [_singular(part) for part in parts if len(part) > 1 or part.isdigit()]
            found.append("".join(parts))
    return found


def _singular(word: str) -> str:
    """Remove a plural ending (D. Harman, How Effective is Suffixing?, 1991)."""
    if len(word) < 4 or word[-1] != "s" or word.endswith(("ss", "us", "is")):
        return word
    return word[:-3] + "y" if word.endswith("ies") else word[:-1]


@dataclass(frozen=True, eq=False)
class Words:
    """The words of the first `rows` texts; it never changes. `extended` shares the buffers, as in `Matrix`."""

    rows: int
    used: int
    """Number of postings: distinct words of each text."""
    vocabulary: dict[str, int]
    """Number of each word; may contain later words."""
    numbers: np.ndarray
    """Buffer (≥ used,) int32: the posting's word."""
    positions: np.ndarray
    """Buffer (≥ used,) int32: the posting's row."""
    counts: np.ndarray
    """Buffer (≥ used,) float32: how often the row contains the word."""
    lengths: np.ndarray
    """Buffer (≥ rows,) float32: number of words of each row."""

    @classmethod
    def empty(cls) -> Self:
        return cls(
            0, 0, {}, np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32)
        )

    @property
    def nbytes(self) -> int:
        arrays = (self.numbers, self.positions, self.counts, self.lengths)
        return sum(array.nbytes for array in arrays) + WORD_BYTES * len(self.vocabulary)

    @property
    def mean_length(self) -> float:
        """Mean number of words of a text; 0 without texts."""
        return float(self.lengths[: self.rows].mean()) if self.rows else 0.0

    def extended(self, texts: Sequence[str]) -> "Words":
        """Return the words of these and more texts."""
        found = [Counter(words(text)) for text in texts]
        numbers = [self.vocabulary.setdefault(word, len(self.vocabulary)) for counts in found for word in counts]
        counts = [count for each in found for count in each.values()]
        positions = np.repeat(np.arange(self.rows, self.rows + len(texts)), [len(each) for each in found])
        return Words(
            self.rows + len(texts),
            self.used + len(numbers),
            self.vocabulary,
            appended(self.numbers, self.used, numbers),
            appended(self.positions, self.used, positions),
            appended(self.counts, self.used, counts),
            appended(self.lengths, self.rows, [each.total() for each in found]),
        )

    def scores_of_parts(self, parts: Sequence[str]) -> tuple[np.ndarray, np.ndarray | None]:
        """Return `scores` for a query, or for its sentences, which follow it: each row's best sentence counts."""
        scores, codes = zip(*[self.scores(part) for part in parts[1:] or parts], strict=True)
        coded = [each for each in codes if each is not None]
        return np.maximum.reduce(scores), np.maximum.reduce(coded) if coded else None

    def scores(self, query: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the BM25 score of each row, (rows,) float64; 0 for a row without a word of the query.

        Also return the same for the query's numbers and codes only, if they carry much of the query's information.
        """
        asked = words(query)
        wanted = Counter(number for word in asked if (number := self.vocabulary.get(word)) is not None)
        places = np.full(len(self.vocabulary), -1, np.int32)  # may be shorter than words that are added meanwhile
        places[list(wanted)] = np.arange(len(wanted))
        place = places[self.numbers[: self.used]]
        hits = np.flatnonzero(place >= 0)
        place, rows, counts = place[hits], self.positions[hits], self.counts[hits]
        documents = np.bincount(place, minlength=len(wanted))
        weights = np.log1p((self.rows - documents + 0.5) / (documents + 0.5)) * np.array(list(wanted.values()))
        norms = K1 * (1 - B + B * self.lengths[: self.rows] / max(1.0, self.mean_length))
        parts = weights[place] * counts / (counts + norms[rows])
        scores = np.bincount(rows, parts, self.rows)
        codes = {word for word in asked if not word.isalpha() and word in self.vocabulary}
        whole = {word for word in codes if not any(word in other for other in codes - {word})}  # 203 is part of cr203
        has_code, is_code = (np.isin(list(wanted), [self.vocabulary[word] for word in some]) for some in (codes, whole))
        if weights[has_code].sum() <= CODE_SHARE * weights.sum():
            return scores, None
        return scores, np.bincount(rows, parts * is_code[place], self.rows)


def appended(buffer: np.ndarray, used: int, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Write `values` behind the first `used` items of the buffer. A full buffer is copied to one a quarter larger."""
    end = used + len(values)
    if end > len(buffer):
        larger = np.empty((end + end // 4, *buffer.shape[1:]), buffer.dtype)
        larger[:used] = buffer[:used]
        buffer = larger
    buffer[used:end] = values
    return buffer
