"""Match a customer's words with names of the customer's own: merchants, payees, accounts, cards, categories."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from rapidfuzz import fuzz

from bankllm.assistant.understanding import WORDS

SAME_NAME = 86
"""RapidFuzz's ratio from which two spellings are one name. Names of up to three letters must be equal."""
_NICKNAMES = {nickname: name for name, nicknames in WORDS["nicknames"].items() for nickname in nicknames}


def fitting(words: str, names: Iterable[str], *, partial: bool = True, typos: bool = True) -> list[str]:
    """Return the names that the words mean: one, several if it is unclear which, or none.

    Case, accents, apostrophes and spaces do not count. Equal names come before names with more words ("Octopus Energy"
    for "octopus", if `partial`), and these before spelling errors ("Greggs" for "gregs", if `typos`).
    """
    wanted = _full(words)
    tokens = _tokens(wanted)
    joined, parts = "".join(tokens), set(tokens)
    tests: tuple[Callable[[_Name], bool], ...] = (
        lambda name: name.full == wanted,
        lambda name: name.joined == joined,
        lambda name: partial and parts <= name.parts,
        lambda name: typos and _same(name.joined, joined),
        lambda name: partial and typos and all(any(_same(part, token) for part in name.parts) for token in tokens),
    )
    known = _known(tuple(names))
    found = ([name.written for name in known if test(name)] for test in tests[: len(tests) if tokens else 1])
    return next(filter(None, found), [])


class _Name(NamedTuple):
    written: str
    full: str
    joined: str
    parts: frozenset[str]


@lru_cache(4096)
def _known(names: tuple[str, ...]) -> tuple[_Name, ...]:
    keys = {name: _full(name) for name in names}
    return tuple(_Name(name, key, "".join(_tokens(key)), frozenset(key.split())) for name, key in keys.items())


@lru_cache(8192)
def plain(text: str) -> str:
    """Lower case, without accents, apostrophes and punctuation; `&` and `+` become words."""
    text = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    text = re.sub(r"['’‘`.]", "", text.replace("&", " and ").replace("+", " plus "))
    return " ".join(re.findall(r"[^\W_]+", text))


def _full(words: str) -> str:
    return _NICKNAMES.get(plain(words), plain(words))


def _tokens(text: str) -> list[str]:
    """Words of a name without those that any name may have, such as "ltd" or "account"."""
    return [word for word in text.split() if word not in WORDS["in_names"]["any"]]


def _same(one: str, other: str) -> bool:
    return one == other or (min(len(one), len(other)) > 3 and fuzz.ratio(one, other) >= SAME_NAME)
