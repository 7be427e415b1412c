"""Match a customer's words with names of the customer's own: merchants, payees, accounts, cards, categories."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from bankllm.assistant.understanding import WORDS

SAME_NAME = 86
"""RapidFuzz's ratio from which two spellings are one name. Names of up to three letters must be equal."""
LONGEST_NAME = 4
"""Words of the longest name of a merchant that is not one of the customer's."""
_NICKNAMES = {nickname: name for name, nicknames in WORDS["nicknames"].items() for nickname in nicknames}
_SPELLED = str.maketrans({"&": " and ", "+": " plus "} | dict.fromkeys("'’‘`.", ""))
_WORDS = re.compile(r"[^\W_]+")


def fitting(words: str, names: Iterable[str], *, partial: bool = True, typos: bool = True) -> list[str]:
    """Return the names that the words mean: one, several if it is unclear which, or none.

    Case, accents, apostrophes and spaces do not count. Equal names come before names with more words ("Octopus Energy"
    for "octopus", if `partial`), and these before spelling errors ("Greggs" for "gregs", if `typos`).
    """
    known, wanted = _known(tuple(names)), _full(words)
    tokens = _tokens(wanted)
    joined = "".join(tokens)
    if found := known.full.get(wanted) or (known.joined.get(joined) if tokens else None):
        return list(found)
    partial = partial and bool(tokens) and all(len(word) > 1 for word in tokens)  # "1" or "s" is no part of a name
    if partial and (found := [name for name, parts in known.parts if parts.issuperset(tokens)]):
        return found
    if typos and len(joined) > 3:
        similar = process.extract(joined, known.long, scorer=fuzz.ratio, score_cutoff=SAME_NAME, limit=None)
        swapped = [key for key in known.long if sorted(key) == sorted(joined) and OSA.distance(key, joined) == 1]
        found = [name for key in [*(key for key, *_ in similar), *swapped] for name in known.joined[key]]
        found = list(dict.fromkeys(found))
    if partial and typos and not found:
        found = [name for name, parts in known.parts if all(any(_same(p, token) for p in parts) for token in tokens)]
    return found or []


def beginning(words: str, names: Iterable[str]) -> list[str]:
    """Return the names of which one word begins with the words: "University of Leeds" for "uni"."""
    start = plain(words)
    known = _known(tuple(names)).parts if re.fullmatch(r"[a-z]{3,}", start) else ()
    return [name for name, parts in known if any(part.startswith(start) for part in parts)]


class _Known(NamedTuple):
    full: dict[str, list[str]]
    """Spelling as `_full` gives it → names."""
    joined: dict[str, list[str]]
    """The words that tell the name from others, without spaces → names."""
    long: list[str]
    """Keys of `joined` that are long enough for spelling errors."""
    parts: list[tuple[str, frozenset[str]]]


@lru_cache(4096)
def _known(names: tuple[str, ...]) -> _Known:
    known = _Known({}, {}, [], [])
    for name in dict.fromkeys(names):
        full = _full(name)
        known.full.setdefault(full, []).append(name)
        known.joined.setdefault("".join(_tokens(full)), []).append(name)
        known.parts.append((name, frozenset(full.split())))
    known.long.extend(key for key in known.joined if len(key) > 3)
    return known


@lru_cache(8192)
def plain(text: str) -> str:
    """Lower case, without accents, apostrophes and punctuation; `&` and `+` become words."""
    text = text.casefold()
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(_WORDS.findall(text.translate(_SPELLED)))


def _full(words: str) -> str:
    return _NICKNAMES.get(plain(words), plain(words))


def _tokens(text: str) -> list[str]:
    """Words of a name without those that any name may have, such as "ltd" or "account"."""
    return [word for word in text.split() if word not in WORDS["in_names"]["any"]]


def _same(one: str, other: str) -> bool:
    return one == other or (min(len(one), len(other)) > 3 and fuzz.ratio(one, other) >= SAME_NAME)
