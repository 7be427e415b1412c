"""Input and output types of a vector store, and the argument checks that all stores share.

All stores keep vectors at unit length and score by cosine similarity, so rows and scores are comparable across stores.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias
from urllib.parse import quote

import numpy as np

from bankllm.errors import UsageError, explained
from bankllm.util.text import is_blank
from bankllm.vectors.filters import Filter
from bankllm.vectors.fusion import FoundBy, Mode

MetadataValue: TypeAlias = str | int | float | bool | list[str]
"""Metadata types that all stores support."""
RESERVED_METADATA = frozenset({"customer_id", "text", "created_at", "created_s", "expires_at"})
"""Metadata keys that Pinecone records use in addition to the caller's keys."""
COLLECTION = "collection "
"""Prefix of a collection's namespace. It contains a space, so it cannot be that of a customer."""
MAX_TEXT_CHARACTERS = 4000
"""Limit of a message and of a reply; both then fit Pinecone's limit of 40 KB of metadata per record."""
MAX_NAME_CHARACTERS = 128
"""Maximum length of a user id or collection name."""
MAX_ID_CHARACTERS = 512
"""Pinecone's limit for record ids and namespace names."""
MAX_TTL_S = 100 * 365.25 * 86_400
"""Longest time to live in seconds, 100 years."""
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, eq=False)
class Row:
    id: str
    """1–512 ASCII characters, unique in its namespace."""
    text: str
    vector: np.ndarray
    """(dim,) float32; the store scales it to unit length. A zero vector is an error."""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    """UTC time as ISO 8601 text, which sorts by time."""
    expires_at: float | None = None
    """Time in seconds since 1970 from which on the row is never returned; None: it does not expire."""
    expires_by_default: bool = False
    """Whether a time to live that the file has for the namespace (`SQLiteStore.retain`) replaces `expires_at`."""


class Query(NamedTuple):
    """One search in one namespace."""

    namespace: str
    vector: np.ndarray
    """(dim,), or (1 + n, dim) for a long query and its n sentences: a row counts with the vector that fits best."""
    words: Sequence[str] = ()
    """The same as texts; dense search does not need them."""
    mode: Mode = "dense"
    where: Filter | None = None


@dataclass(frozen=True)
class Match:
    id: str
    score: float
    """Cosine similarity with the query, −1 to 1; of a long query with its nearest sentence."""
    text: str
    metadata: Mapping[str, MetadataValue]
    created_at: str
    lexical: float = 0.0
    """BM25 score of the query's words; 0 if the text has none of them, and in dense search."""
    fused: float = 0.0
    """Score of the fused rankings, by which hybrid search orders; 0 in other modes."""
    found_by: FoundBy = "dense"
    """Which ranking has the text among its best, see `fusion.DEPTH`."""


def check_namespace(namespace: str) -> None:
    """Raises `UsageError` for a namespace that is too long or that Pinecone maps to its shared default namespace."""
    if not namespace or namespace == "__default__":
        raise UsageError(
            f"{namespace!r} is not a valid namespace: Pinecone maps it to its default namespace, which all customers "
            "would share. Use a different name for each customer."
        )
    if len(quote(namespace, safe="")) > MAX_ID_CHARACTERS:
        raise UsageError(
            f"Expected a namespace of at most {MAX_ID_CHARACTERS} characters after percent-encoding, got "
            f"{len(quote(namespace, safe=''))}. Use a shorter name."
        )


def check_name(what: str, name: str) -> None:
    """Raises `UsageError` unless `name` has 1–128 printable ASCII characters without spaces, or is `__default__`."""
    valid = isinstance(name, str) and 1 <= len(name) <= MAX_NAME_CHARACTERS
    if not valid or not all("!" <= character <= "~" for character in name) or name == "__default__":
        raise UsageError(
            f"Expected a {what} of 1–{MAX_NAME_CHARACTERS} printable ASCII characters without spaces (and not "
            f"'__default__', Pinecone's default namespace), got {str(name)[:40]!r}. Use another name."
        )


def check_text(name: str, text: str, limit: int = MAX_TEXT_CHARACTERS) -> None:
    """Raises `UsageError` if the argument `name` is not a str, is blank, or is longer than `limit` characters."""
    if not isinstance(text, str) or is_blank(text):
        raise UsageError(f"{name} is empty: expected 1–{limit} characters of text.")
    if len(text) > limit:
        raise UsageError(f"{name} has {len(text)} characters: expected at most {limit}. Shorten or split the text.")


def check_count(what: str, texts: int, found: Sequence[object] | np.ndarray | None) -> None:
    if found is not None and len(found) != texts:
        raise UsageError(
            f"Expected the same number of {what} as texts: got {texts} texts, {len(found)} {what}. Pass one per text."
        )


def check_top_k(top_k: int) -> None:
    if isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1:
        raise UsageError(f"top_k is the number of matches to return: expected an integer ≥ 1, got {top_k!r}.")


def expiry(ttl_s: float | None) -> float | None:
    """Return `Row.expires_at` of a row that lives `ttl_s` seconds from now; None for None and infinity."""
    check_ttl(ttl_s)
    return None if ttl_s is None or ttl_s == math.inf else time.time() + ttl_s


def check_ttl(ttl_s: float | None) -> None:
    """Raises `UsageError` unless `ttl_s` is None, infinity, or a number above 0 and at most `MAX_TTL_S`."""
    if ttl_s is None or ttl_s == math.inf:
        return
    if isinstance(ttl_s, bool) or not isinstance(ttl_s, int | float) or not 0 < ttl_s <= MAX_TTL_S:
        raise UsageError(
            f"ttl_s is the number of seconds that a text is kept: expected a number above 0 and at most "
            f"{MAX_TTL_S:.0f} (100 years), or math.inf to keep it until it is deleted, got {ttl_s!r}."
        )


def check_id(id_: str) -> None:
    valid = isinstance(id_, str) and 1 <= len(id_) <= MAX_ID_CHARACTERS and id_.isascii() and "\0" not in id_
    if not valid:
        raise UsageError(f"Expected a row id of 1–{MAX_ID_CHARACTERS} ASCII characters, got {str(id_)[:40]!r}.")


def unit_vectors(vectors: Sequence[np.ndarray] | np.ndarray, dim: int) -> np.ndarray:
    """Scale n vectors to (n, dim) float32 of unit length; `UsageError` for another shape, NaN, infinity or zero."""
    for vector in vectors:
        if np.shape(vector) != (dim,):
            raise UsageError(
                f"Expected a vector of shape ({dim},), got {np.shape(vector)}. Use a vector of the store's embedder."
            )
    array = np.asarray(vectors, np.float32).reshape(len(vectors), dim)
    norms = np.linalg.norm(array.astype(np.float64), axis=1, keepdims=True)  # float32 squares may overflow
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise UsageError("Expected a vector of finite numbers, not all zero; got NaN, infinity or only zeros.")
    unit: np.ndarray = array / norms
    return unit.astype(np.float32)


def checked(rows: Sequence[Row], dim: int) -> tuple[np.ndarray, list[str]]:
    """Return the rows' vectors (n, dim) at unit length, and their metadata as JSON. Raises `UsageError`."""
    metadata = []
    for row in rows:
        check_id(row.id)
        if row.expires_at is not None and not math.isfinite(row.expires_at):
            raise UsageError(f"Row {row.id}: expected expires_at in seconds since 1970, or None, got {row.expires_at}.")
        metadata.append(_metadata_json(row))
    return unit_vectors([row.vector for row in rows], dim), metadata


def _metadata_json(row: Row) -> str:
    if reserved := RESERVED_METADATA & row.metadata.keys():
        raise UsageError(f"Row {row.id}: the metadata key {min(reserved)!r} is reserved. Use another key.")
    for key, value in row.metadata.items():
        strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not strings and not isinstance(value, str | int | float):
            raise UsageError(
                f"Row {row.id}: expected metadata {key!r} to be a str, number, bool or list of str, "
                f"got {type(value).__name__}. Convert the value or remove the key."
            )
    fault = f"Row {row.id} contains text or a number that cannot be written as JSON"
    with explained(UsageError, fault, "Expected valid Unicode and finite numbers.", ValueError):
        kept = _JSON.encode(dict(row.metadata))
        (kept + row.text).encode()
    return kept
