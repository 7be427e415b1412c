"""Process-wide settings of a server: malloc, BLAS threads, the thread switch interval and the garbage collector.

- glibc gives each thread a heap of its own and keeps freed memory, so that the memory of a server whose threads pass
  arrays to each other grows although no data is kept (`benchmarks/soak.py`).
- numpy splits a large matrix product between all cores, and its threads spin while they wait. Searches already run in
  parallel, so each uses one core.
"""

import ctypes
import gc
import sys

import numpy as np  # noqa: F401 - threadpool_limits needs the BLAS library to be loaded
from threadpoolctl import threadpool_limits

M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8
"""Option numbers from `malloc.h`."""
LARGE_BYTES = 128 * 1024
"""Blocks of this size or larger are mapped separately and returned to the system when freed (glibc's initial value)."""
SWITCH_S = 0.001
"""Time in seconds after which a thread releases the GIL to a waiting thread. With Python's default of 5 ms, two encoder
threads wait for the GIL so often that 1/12 of two cores is idle."""


def tune_process() -> None:
    """One heap for all threads and separate mappings for large blocks (glibc only), one BLAS thread, `SWITCH_S`."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    threadpool_limits(limits=1, user_api="blas")
    sys.setswitchinterval(SWITCH_S)


def freeze_gc() -> None:
    """Exclude all existing objects from garbage collection. Call it once, after the models are loaded.

    A full collection of these objects takes about 60 ms, and no other thread can run meanwhile.
    """
    gc.collect()
    gc.freeze()
