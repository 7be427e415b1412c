"""Input and output types of a vector store, and the argument checks that all stores share.

All stores keep vectors at unit length and score by cosine similarity, so rows and scores are comparable across stores.
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
"""Metadata types that all stores support."""
RESERVED_METADATA = frozenset({"customer_id", "text", "created_at"})
"""Metadata keys that Pinecone records use in addition to the caller's keys."""
MAX_ID_CHARACTERS = 512
"""Pinecone's limit for record ids and namespace names."""
NORM_ROWS = 4096
"""Vectors normalised per step; in float64 they need 12 MB at 384 dimensions."""
_SCALARS = (str, int, float, bool)
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def utc_now() -> str:
    """Return the current UTC time as ISO 8601 text with microseconds; such texts sort by time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, eq=False)
class Row:
    """One text with its vector, as written to a store."""

    id: str
    """1–512 ASCII characters, unique in its namespace."""
    text: str
    vector: np.ndarray
    """(dim,) float32; the store scales it to unit length. A zero vector is an error."""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    created_at: str = field(default_factory=utc_now)


@dataclass(frozen=True)
class Match:
    """A row returned by a search, with its score."""

    id: str
    score: float
    """Cosine similarity with the query, −1 to 1."""
    text: str
    metadata: Mapping[str, MetadataValue]
    created_at: str


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


def check_top_k(top_k: int) -> None:
    """Raises `UsageError` unless `top_k` is an integer of at least 1."""
    if isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1:
        raise UsageError(f"top_k is the number of matches to return: expected an integer ≥ 1, got {top_k!r}.")


def unit_vector(vector: np.ndarray, dim: int) -> np.ndarray:
    """Scale (dim,) numbers to a (dim,) float32 vector of unit length.

    Raises `UsageError` for another shape, for NaN or infinity, and for a zero vector.
    """
    array = np.asarray(vector, dtype=np.float32)
    if array.shape != (dim,):
        raise UsageError(
            f"Expected a vector of shape ({dim},), got {array.shape}. Use a vector of the store's embedder."
        )
    norm = float(np.linalg.norm(array.astype(np.float64)))
    if not math.isfinite(norm) or norm == 0:
        raise UsageError("Expected a vector of finite numbers, not all zero; got NaN, infinity or only zeros.")
    return (array / norm).astype(np.float32)


@dataclass(frozen=True)
class CheckedRows:
    """Validated rows, with their vectors and metadata converted for storage."""

    rows: Sequence[Row]
    unit: np.ndarray
    """(n, dim) float32: the vectors of the rows at unit length."""
    metadata: list[str]
    """The metadata of each row as JSON."""


def checked(rows: Sequence[Row], dim: int) -> CheckedRows:
    """Validate rows and convert their vectors and metadata. Raises `UsageError` at the first invalid row."""
    metadata = []
    for row in rows:
        if not 1 <= len(row.id) <= MAX_ID_CHARACTERS or not row.id.isascii() or "\0" in row.id:
            raise UsageError(f"Expected a row id of 1–{MAX_ID_CHARACTERS} ASCII characters, got {row.id[:40]!r}.")
        metadata.append(_metadata_json(row))
    return CheckedRows(rows, unit_vectors([row.vector for row in rows], dim), metadata)


def check_rows(rows: Sequence[Row], dim: int) -> list[Row]:
    """Validate rows and return them with unit-length vectors. Raises `UsageError` at the first invalid row."""
    return [replace(row, vector=vector) for row, vector in zip(rows, checked(rows, dim).unit, strict=True)]


def unit_vectors(vectors: Sequence[np.ndarray], dim: int) -> np.ndarray:
    """Scale n (dim,) vectors to (n, dim) float32 of unit length, in one pass. Raises as `unit_vector` does."""
    unit = np.empty((len(vectors), dim), np.float32)
    for position, vector in enumerate(vectors):
        if np.shape(vector) != (dim,):
            _raise_for_first_invalid(vectors, dim)
        unit[position] = vector
    for start in range(0, len(unit), NORM_ROWS):
        part = unit[start : start + NORM_ROWS]
        wide = part.astype(np.float64)  # squares of float32 values may overflow float32
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        if not (np.isfinite(norms) & (norms > 0)).all():
            _raise_for_first_invalid(vectors, dim)
        np.divide(wide, norms[:, None], out=part, casting="same_kind")
    return unit


def _raise_for_first_invalid(vectors: Sequence[np.ndarray], dim: int) -> None:
    for vector in vectors:
        unit_vector(vector, dim)


def _metadata_json(row: Row) -> str:
    if not row.metadata.keys().isdisjoint(RESERVED_METADATA):
        reserved = RESERVED_METADATA & row.metadata.keys()
        raise UsageError(f"Row {row.id}: the metadata key {min(reserved)!r} is reserved. Use another key.")
    for key, value in row.metadata.items():
        strings = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if not strings and not isinstance(value, _SCALARS):
            raise UsageError(
                f"Row {row.id}: expected metadata {key!r} to be a str, number, bool or list of str, "
                f"got {type(value).__name__}. Convert the value or remove the key."
            )
    try:
        kept = _JSON.encode(dict(row.metadata))
        kept.encode()
        _JSON.encode(row.text).encode()
    except ValueError as error:  # NaN, infinity, or an unpaired surrogate
        raise UsageError(
            f"Row {row.id} contains text or a number that cannot be written as JSON: {error}. Expected valid Unicode "
            "and finite numbers."
        ) from error
    return kept
