"""Match a customer's words with names of the customer's own: merchants, payees, accounts, cards, categories."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

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
    wanted, tokens = _full(words), _tokens(_full(words))
    keys = {name: _full(name) for name in dict.fromkeys(names)}
    tests: tuple[Callable[[str], bool], ...] = (
        lambda key: key == wanted,
        lambda key: "".join(_tokens(key)) == "".join(tokens),
        lambda key: partial and set(tokens) <= set(key.split()),
        lambda key: typos and _same("".join(_tokens(key)), "".join(tokens)),
        lambda key: partial and typos and all(any(_same(part, token) for part in key.split()) for token in tokens),
    )
    found = ([name for name, key in keys.items() if test(key)] for test in tests[: len(tests) if tokens else 1])
    return next(filter(None, found), [])


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
