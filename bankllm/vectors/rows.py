"""What goes into a vector store and what comes out, and the checks that every store makes alike.

Every store keeps unit-length vectors and scores by cosine similarity, so a row means the same in each of them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeAlias
from urllib.parse import quote

import numpy as np

from bankllm.errors import UsageError

MetadataValue: TypeAlias = str | int | float | bool | list[str]
"""The kinds of value that every store can keep."""
RESERVED_METADATA = frozenset({"customer_id", "text", "created_at"})
"""Keys that Pinecone's records hold beside the caller's own."""
MAX_ID_CHARACTERS = 512
NORM_ROWS = 4096
"""Vectors that are scaled at once: in float64 they take 12 MB at 384 numbers."""
_SCALARS = (str, int, float, bool)
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def utc_now() -> str:
    """The time in UTC as ISO 8601 text with microseconds; sorts as text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, eq=False)
class Row:
    """One text with its vector."""

    id: str
    """1–512 ASCII characters, unique in its namespace."""
    text: str
    vector: np.ndarray
    """(dim,) float32; any length but zero, kept at unit length."""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    created_at: str = field(default_factory=utc_now)


@dataclass(frozen=True)
class Match:
    """A row that a search found."""

    id: str
    score: float
    """Cosine similarity with the query, −1 to 1."""
    text: str
    metadata: Mapping[str, MetadataValue]
    created_at: str


def check_namespace(namespace: str) -> None:
    """Refuse what would land in a namespace that customers share. Raises `UsageError`."""
    if not namespace or namespace == "__default__":
        raise UsageError(
            f"{namespace!r} is not a namespace: Pinecone reads it as the default one, which all customers would "
            "share. Give each customer a name of its own."
        )
    if len(quote(namespace, safe="")) > MAX_ID_CHARACTERS:
        raise UsageError(f"A namespace takes at most {MAX_ID_CHARACTERS} percent-encoded characters; shorten it.")


def check_top_k(top_k: int) -> None:
    """Raises `UsageError` unless `top_k` is a whole number of at least 1."""
    if isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1:
        raise UsageError(f"top_k is how many matches to return: expected a whole number ≥ 1, got {top_k!r}.")


def unit_vector(vector: np.ndarray, dim: int) -> np.ndarray:
    """(dim,) numbers → (dim,) float32 of unit length. Raises `UsageError` for a vector without a direction."""
    array = np.asarray(vector, dtype=np.float32)
    if array.shape != (dim,):
        raise UsageError(f"Expected a vector of shape ({dim},), got {array.shape}. Is it from another embedder?")
    norm = float(np.linalg.norm(array.astype(np.float64)))
    if not math.isfinite(norm) or norm == 0:
        raise UsageError("Expected a vector of finite numbers, not all zero; got one with NaN, infinity or only zeros.")
    return (array / norm).astype(np.float32)


@dataclass(frozen=True)
class CheckedRows:
    """Rows that every store can keep, with what it keeps of them."""

    rows: Sequence[Row]
    unit: np.ndarray
    """(n, dim) float32: their vectors at unit length."""
    metadata: list[str]
    """As JSON."""


def checked(rows: Sequence[Row], dim: int) -> CheckedRows:
    """The rows, their vectors and their metadata ready to be kept. Raises `UsageError` at the first that cannot be."""
    metadata = []
    for row in rows:
        if not 1 <= len(row.id) <= MAX_ID_CHARACTERS or not row.id.isascii() or "\0" in row.id:
            raise UsageError(f"Expected a row id of 1–{MAX_ID_CHARACTERS} ASCII characters, got {row.id[:40]!r}.")
        metadata.append(_metadata_json(row))
    return CheckedRows(rows, unit_vectors([row.vector for row in rows], dim), metadata)


def check_rows(rows: Sequence[Row], dim: int) -> list[Row]:
    """The rows with unit-length vectors. Raises `UsageError` at the first one that a store could not keep."""
    return [replace(row, vector=vector) for row, vector in zip(rows, checked(rows, dim).unit, strict=True)]


def unit_vectors(vectors: Sequence[np.ndarray], dim: int) -> np.ndarray:
    """n times (dim,) numbers → (n, dim) float32 of unit length, in one pass. Raises as `unit_vector` does."""
    unit = np.empty((len(vectors), dim), np.float32)
    for position, vector in enumerate(vectors):
        if np.shape(vector) != (dim,):
            _first_without_direction(vectors, dim)
        unit[position] = vector
    for start in range(0, len(unit), NORM_ROWS):
        part = unit[start : start + NORM_ROWS]
        wide = part.astype(np.float64)  # squares of float32 may be beyond its range
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        if not (np.isfinite(norms) & (norms > 0)).all():
            _first_without_direction(vectors, dim)
        np.divide(wide, norms[:, None], out=part, casting="same_kind")
    return unit


def _first_without_direction(vectors: Sequence[np.ndarray], dim: int) -> None:
    for vector in vectors:
        unit_vector(vector, dim)


def _metadata_json(row: Row) -> str:
    if not row.metadata.keys().isdisjoint(RESERVED_METADATA):
        reserved = RESERVED_METADATA & row.metadata.keys()
        raise UsageError(f"Row {row.id}: the metadata key {min(reserved)!r} is reserved; choose another name.")
    for key, value in row.metadata.items():
        strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not strings and not isinstance(value, _SCALARS):
            raise UsageError(
                f"Row {row.id}: expected metadata {key!r} to be a str, number, bool or list of str, "
                f"got {type(value).__name__}."
            )
    try:
        kept = _JSON.encode(dict(row.metadata))
        kept.encode()
        _JSON.encode(row.text).encode()
    except ValueError as error:  # NaN, or half of a surrogate pair
        raise UsageError(f"Row {row.id} holds text or a number that cannot be written as JSON: {error}.") from error
    return kept
