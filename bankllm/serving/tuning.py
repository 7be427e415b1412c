"""What a serving process sets for all of itself: one heap, one core a search, quick turns, garbage left in peace.

glibc gives threads heaps of their own, and lets the size from which a freed block goes back to the system rise. A
server whose threads hand arrays to each other then holds more each minute, though it keeps nothing:
`tests/benchmarks/soak.py` shows it.

numpy's BLAS splits a product of some size between all cores, and its threads wait for each other by spinning, on the
very cores that the classifier needs. Searches already run side by side, so each takes one:
`tests/benchmarks/search_threads.py` shows what that is worth.
"""

import ctypes
import gc
import sys

import numpy as np  # noqa: F401 - its BLAS must be there to be told
from threadpoolctl import threadpool_limits

M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
"""Of `malloc.h`."""
LARGE_BYTES = 128 * 1024
"""Blocks from here on are the system's own pages and go back when freed; glibc begins with the same size."""
SWITCH_S = 0.001
"""How long a thread keeps Python's lock that another one waits for. At Python's own 5 ms both of the encoder's threads
wait for it so often that a twelfth of two cores idles."""


def tune_process() -> None:
    """Set all of it, for this process from now on."""
    _keep_memory_flat()
    threadpool_limits(limits=1, user_api="blas")
    sys.setswitchinterval(SWITCH_S)


def freeze_gc() -> None:
    """Call once, when all that lasts is loaded: Python's collector looks at nothing of it from now on.

    A look at everything takes some 60 ms in which no other thread runs; `tests/benchmarks/README.md` has figures.
    """
    gc.collect()
    gc.freeze()


def _keep_memory_flat() -> None:
    """One heap for all threads, large blocks apart from it. Other libcs are let be."""
    if sys.platform != "linux":
        return
    if (set_option := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        set_option(M_ARENA_MAX, 1)
        set_option(M_MMAP_THRESHOLD, LARGE_BYTES)
