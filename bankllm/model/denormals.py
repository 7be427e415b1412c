"""Take numbers too small for a float's normal form as zero, for the duration of a block, in the calling thread alone.

The softmax of packed texts gives such numbers wherever a token must not look. Intel's cores leave their fast path for
each of them; `tests/benchmarks/denormals.py` measures what that costs a pass of MiniLM.
"""

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

FENV_BYTES, MXCSR_OFFSET = 32, 28
"""`fenv_t` on x86-64 Linux, in glibc and musl alike."""
FLUSH_TO_ZERO, DENORMALS_ARE_ZERO = 1 << 15, 1 << 6
"""Bits of MXCSR: results, and operands."""


def _library() -> ctypes.PyDLL | None:
    """C's floating-point environment; None where its layout is another, or not known."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    library = ctypes.PyDLL(None)  # unlike CDLL it keeps Python's lock: the calls take less time than handing it over
    return library if hasattr(library, "fegetenv") and hasattr(library, "fesetenv") else None


_LIBRARY = _library()


@contextmanager
def flushed() -> Iterator[None]:
    """Flush denormal numbers to zero in this thread, and in threads started meanwhile, which inherit it.

    Does nothing on systems other than x86-64 Linux.
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
