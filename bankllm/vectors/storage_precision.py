"""How a vector's numbers stand in the file: 4, 2 or 1 byte each. In memory they are float32 again.

decode(encode(unit, "int8"), dim, "int8")    # (n, dim) float32, half a step (1/254 of its largest number) off at most
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np

from bankllm.errors import StoreError, UsageError

Precision: TypeAlias = Literal["float32", "float16", "int8"]
FLOAT32 = np.dtype("<f4")
"""A number that is not rounded, little-endian on every machine."""
STEPS = 127
"""An int8 row's largest magnitude becomes this number of steps."""


def precision_of(name: str) -> Precision:
    """The precision of this name. Raises `UsageError` for one that is none of the three."""
    for known in get_args(Precision):
        if name == known:
            return known
    raise UsageError(f"Expected a precision of {', '.join(get_args(Precision))}; got {name!r}.")


def row_type(dim: int, precision: Precision) -> np.dtype:
    """One vector's bytes, little-endian on every machine."""
    if precision == "int8":
        return np.dtype([("scale", FLOAT32), ("steps", "i1", (dim,))])
    return np.dtype((FLOAT32 if precision == "float32" else "<f2", (dim,)))


def encode(unit: np.ndarray, precision: Precision) -> list[bytes]:
    """(n, dim) float32 of unit length → each row as it stands in the file."""
    kept = row_type(unit.shape[1], precision)
    if precision == "int8":
        packed = np.empty(len(unit), kept)
        steps = np.rint(unit * (STEPS / np.abs(unit).max(axis=1, keepdims=True)))
        packed["steps"] = steps
        packed["scale"] = 1 / np.linalg.norm(steps, axis=1)  # so that what is read back has unit length again
    else:
        packed = unit.astype(kept.base)
    data, size = packed.tobytes(), kept.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def decode(rows: Sequence[bytes], dim: int, precision: Precision) -> np.ndarray:
    """Rows of the file → (n, dim) float32. Raises `StoreError` for a row of another length."""
    kept = row_type(dim, precision)
    if wrong := next((len(row) for row in rows if len(row) != kept.itemsize), None):
        raise StoreError(
            f"Expected a kept vector of {kept.itemsize} bytes (dim {dim}, {precision}), found one of {wrong}. The file "
            "is damaged: put it aside and restore a backup."
        )
    packed = np.frombuffer(b"".join(rows), kept)
    if precision == "int8":
        return packed["steps"] * packed["scale"][:, None]
    return packed.astype(np.float32, copy=False)
