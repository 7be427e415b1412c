"""Storage formats of vectors in the file: float32, float16 or int8 (4, 2 or 1 byte per number).

In memory, vectors are always float32.

decode(encode(unit, "int8"), dim, "int8")    # (n, dim) float32; error ≤ 1/254 of the row's largest number (half a step)
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np

from bankllm.errors import StoreError, UsageError

Precision: TypeAlias = Literal["float32", "float16", "int8"]
FLOAT32 = np.dtype("<f4")
"""Full precision, little-endian on all machines."""
STEPS = 127
"""int8: the largest magnitude in a row is stored as this integer."""


def precision_of(name: str) -> Precision:
    """Return the precision with this name. Raises `UsageError` for an unknown name."""
    for known in get_args(Precision):
        if name == known:
            return known
    raise UsageError(f"Expected one of the precisions {', '.join(get_args(Precision))}; got {name!r}.")


def row_type(dim: int, precision: Precision) -> np.dtype:
    """Return the NumPy dtype of one stored vector, little-endian on all machines."""
    if precision == "int8":
        return np.dtype([("scale", FLOAT32), ("steps", "i1", (dim,))])
    return np.dtype((FLOAT32 if precision == "float32" else "<f2", (dim,)))


def encode(unit: np.ndarray, precision: Precision) -> list[bytes]:
    """Convert (n, dim) float32 vectors of unit length to n byte strings for the file."""
    dtype = row_type(unit.shape[1], precision)
    if precision == "int8":
        packed = np.empty(len(unit), dtype)
        steps = np.rint(unit * (STEPS / np.abs(unit).max(axis=1, keepdims=True)))
        packed["steps"] = steps
        packed["scale"] = 1 / np.linalg.norm(steps, axis=1)  # decoded rows have unit length again
    else:
        packed = unit.astype(dtype.base)
    data, size = packed.tobytes(), dtype.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def decode(rows: Sequence[bytes], dim: int, precision: Precision) -> np.ndarray:
    """Convert n byte strings of the file to (n, dim) float32. Raises `StoreError` for a row of the wrong size."""
    dtype = row_type(dim, precision)
    if wrong := next((len(row) for row in rows if len(row) != dtype.itemsize), None):
        raise StoreError(
            f"Expected a stored vector of {dtype.itemsize} bytes (dim {dim}, {precision}), found {wrong} bytes. The "
            "file is damaged: move it away and restore a backup."
        )
    packed = np.frombuffer(b"".join(rows), dtype)
    if precision == "int8":
        return packed["steps"] * packed["scale"][:, None]
    return packed.astype(np.float32, copy=False)
