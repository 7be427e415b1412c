"""Keep the memory of a server flat under load.

glibc gives threads heaps of their own, and lets the size from which a freed block goes back to the system rise. A
server whose threads hand arrays to each other then holds more each minute, though it keeps nothing:
`tests/benchmarks/soak.py` shows it.
"""

import ctypes
import sys

M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
"""Of `malloc.h`."""
LARGE_BYTES = 128 * 1024
"""Blocks from here on are the system's own pages and go back when freed; glibc begins with the same size."""


def keep_memory_flat() -> None:
    """One heap for all threads, large blocks apart from it; for this process from now on. Other libcs are let be."""
    if sys.platform != "linux":
        return
    if (set_option := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        set_option(M_ARENA_MAX, 1)
        set_option(M_MMAP_THRESHOLD, LARGE_BYTES)
