"""A chain of JSON objects in which each entry contains the hash of the entry before it, so that changes are detected.

An entry is an object with the member `chain`: its number, the previous entry's hash, and its own hash. The hash is
SHA-256 over the entry's JSON with sorted keys and without spaces, or HMAC-SHA-256 if a key is given. Without a key,
whoever can write the entries can also compute the whole chain again; then only a link that was kept elsewhere shows it.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bankllm.errors import ChainBroken, UsageError, explained

FIRST_PREVIOUS = "0" * 64
"""The `previous` of the first entry."""


@dataclass(frozen=True)
class Link:
    number: int
    """Position in the chain, from 1."""
    previous: str
    """Hash of the entry before; `FIRST_PREVIOUS` in the first entry."""
    hash: str
    """64 hexadecimal digits."""


def chained(body: Mapping[str, Any], last: Link | None = None, key: bytes | None = None) -> dict[str, Any]:
    """Return the entry that follows `last` (None: the first entry) with the members of `body`.

    Raises `UsageError` for a body with the member `chain` and for an empty key, `TypeError` or `ValueError` for a body
    that is not JSON.
    """
    if "chain" in body:
        raise UsageError("The member 'chain' is reserved for the entry's place in the chain. Use another name.")
    number, previous = _place_after(last)
    return {**body, "chain": asdict(Link(number, previous, _digest(body, number, previous, key)))}


def parse(text: str) -> dict[str, Any]:
    """Read one entry from JSON. Raises `ChainBroken` unless it is an object with a valid `chain`, no member twice."""
    fault = "Expected one JSON object with the member 'chain' (number, previous, hash), got other text"
    with explained(ChainBroken, fault, "It was cut off or edited: use the original."):
        entry = json.loads(text, object_pairs_hook=_unique)
        json.dumps(entry, allow_nan=False)  # raises for NaN and infinity, which `json.loads` reads
        if not isinstance(link_of(entry).number, int):
            raise TypeError("chain.number is not an integer")
    return dict(entry)


def link_of(entry: Mapping[str, Any]) -> Link:
    return Link(**entry["chain"])


def check(entry: Mapping[str, Any], key: bytes | None = None) -> Link:
    """Return an entry's link. Raises `ChainBroken` if its hash does not fit: the entry was changed."""
    link = link_of(entry)
    body = {name: value for name, value in entry.items() if name != "chain"}
    if link.hash != _digest(body, link.number, link.previous, key):
        raise ChainBroken(
            f"Entry {link.number} of the chain does not have the hash of its content: it was changed, or written with "
            "another key. Use the original, or compare it with a backup."
        )
    return link


def verify(entries: Iterable[Mapping[str, Any]], key: bytes | None = None, kept: Sequence[Link] = ()) -> Link | None:
    """Check all entries from the first on, and that the `kept` links are among them; return the last link.

    Raises `ChainBroken` if an entry was changed, removed, inserted or moved, or if entries at the end were removed that
    a kept link proves. Without a kept link, a shortened chain looks like a complete one.
    """
    last, wanted = None, {link.number: link.hash for link in kept}
    for entry in entries:
        link = check(entry, key)
        if (link.number, link.previous) != (expected := _place_after(last)):
            raise _broken(f"entry {link.number} does not follow entry {expected[0] - 1}: entries were removed or moved")
        if wanted.pop(link.number, link.hash) != link.hash:
            raise _broken(f"entry {link.number} is not the one that was kept: the chain was written again")
        last = link
    if wanted:
        end = last.number if last else 0
        raise _broken(f"it ends with entry {end}, but entry {max(wanted)} was kept: entries at the end were removed")
    return last


def _broken(reason: str) -> ChainBroken:
    return ChainBroken(f"The chain does not hold: {reason}. Keep the file as it is and compare it with a backup.")


def _place_after(last: Link | None) -> tuple[int, str]:
    return (last.number + 1, last.hash) if last else (1, FIRST_PREVIOUS)


def _digest(body: Mapping[str, Any], number: int, previous: str, key: bytes | None) -> str:
    if key is not None and not key:
        raise UsageError("The chain's key is empty. Expected at least one byte, or None for a chain without a key.")
    entry = {**body, "chain": {"number": number, "previous": previous}}
    content = json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    return (hashlib.sha256(content) if key is None else hmac.new(key, content, "sha256")).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member occurs twice")
    return members
