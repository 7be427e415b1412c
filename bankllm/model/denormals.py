"""Flush denormal floating-point numbers to zero inside a block, only in the calling thread.

Denormal numbers are too small for the normal form of a float. The softmax over packed texts produces them wherever the
attention mask excludes a token. Intel cores process each of them on a slow path. `benchmarks/denormals.py`
measures the effect on a forward pass of MiniLM.
"""

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FENV_BYTES, MXCSR_OFFSET = 32, 28
"""Size of `fenv_t` and position of MXCSR in it, in bytes, on x86-64 Linux (glibc and musl)."""
FLUSH_TO_ZERO, DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
"""Bits of the register MXCSR: flush denormal results, and treat denormal operands as zero."""


def _library() -> ctypes.PyDLL | None:
    """Return the C library with the floating-point environment; None if its layout differs or is unknown."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    # Unlike CDLL, PyDLL does not release the GIL. The calls are shorter than releasing and acquiring the GIL.
    library = ctypes.PyDLL(None)
    return library if hasattr(library, "fegetenv") and hasattr(library, "fesetenv") else None


_LIBRARY = _library()


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero in this thread, until the block ends.

    Threads that are started inside the block inherit the setting and keep it. Does nothing on systems other than
    x86-64 Linux.
    """
    if _LIBRARY is None:
        yield
        return
    before = ctypes.create_string_buffer(FENV_BYTES)
    _LIBRARY.fegetenv(before)
    inside = ctypes.create_string_buffer(before.raw, FENV_BYTES)
    mxcsr = ctypes.c_uint32.from_buffer(inside, MXCSR_OFFSET)
    mxcsr.value |= FLUSH_TO_ZERO | DENORMALS_ARE_ZERO
    _LIBRARY.fesetenv(inside)
    try:
        yield
    finally:
        _LIBRARY.fesetenv(before)
